#!/bin/sh
# The confirmation of docs/study.md; the same command resumes after a stop.
cd "$(dirname "$0")/arms" || exit
run() { # folder, environment, labels per session, labels, seeds, agents
    mujoco-sail run --env "$2" --protocol study --seeds "$5" --set env.backend=envpool \
        --set env.steps=60000 --set env.log_every=2000 --set env.query_window=1 \
        --set env.labels="$4" --set env.labels_per_session="$3" \
        --results "../../results/$1" --agents "$6" || exit
}
pilot=100,101,102,103,104
case $1 in
choice)
    run confirmation_choice/few cheetah_run 2 50 $pilot s_0.toml,sac,random
    run confirmation_choice/many cheetah_run 4 100 $pilot s_0.toml
    run confirmation_choice/few door_open 4 200 $pilot s_0.toml,sac,random
    run confirmation_choice/many door_open 10 500 $pilot s_0.toml
    ;;
runs)
    run confirmation "$2" "$3" "$4" 10 sac,random
    for seeds in 10 20; do
        run confirmation "$2" "$3" "$4" $seeds s_0.toml,s_0.5.toml,revkl_0.toml,revkl_0.5.toml
        run confirmation_control "$2" 1 $(($4 / $3)) $seeds s_0.toml
    done
    ;;
*)
    echo "usage: study/confirmation.sh choice | runs ENVIRONMENT LABELS_PER_SESSION LABELS" >&2
    exit 2
    ;;
esac
