#!/bin/sh
# The confirmation of docs/study.md; the same command goes on after a stop.
# usage: study/confirmation.sh choice|runs ENVIRONMENT LABELS_PER_SESSION LABELS
cd "$(dirname "$0")/arms" || exit
part=$1 env=$2
run() { # folder, labels per session, labels, seeds, agents
    mujoco-sail run --env "$env" --protocol study --seeds "$4" --set env.backend=envpool \
        --set env.steps=60000 --set env.log_every=2000 --set env.query_window=1 \
        --set env.labels="$3" --set env.labels_per_session="$2" \
        --results "../../results/$1" --agents "$5" || exit
}
case $part in
choice)
    run "confirmation_choice/labels_$4" "$3" "$4" 100,101,102,103,104 s_0.toml,sac,random
    ;;
runs)
    run confirmation "$3" "$4" 10 sac,random
    for seeds in 10 20; do
        run confirmation "$3" "$4" $seeds s_0.toml,s_0.5.toml,revkl_0.toml,revkl_0.5.toml
        run confirmation_control 1 $(($4 / $3)) $seeds s_0.toml
    done
    ;;
*)
    echo "usage: study/confirmation.sh choice|runs ENVIRONMENT LABELS_PER_SESSION LABELS" >&2
    exit 2
    ;;
esac
