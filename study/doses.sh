#!/bin/sh
# Dose and response of docs/study.md; the same command resumes after a stop.
# usage: study/doses.sh ENVIRONMENT LABELS_PER_SESSION
cd "$(dirname "$0")/arms" || exit
env=$1 session=$2
fifth=$(((session + 4) / 5)) # 10 -> 2, 4 -> 1
run() { # folder, labels per session, seeds, agents
    mujoco-sail run --env "$env" --protocol study --seeds "$3" --set env.backend=envpool \
        --set env.steps=60000 --set env.log_every=2000 --set env.query_window=1 \
        --set env.labels=$((25 * $2)) --set env.labels_per_session="$2" \
        --results "../../results/$1" --agents "$4" || exit
}
run doses "$session" 10 sac,random
for seeds in 10 20; do
    run doses "$session" $seeds s_0.toml,s_0.03.toml,s_0.1.toml,s_0.5.toml,permuted_0.5.toml,reversed_0.5.toml
    run doses_fifth "$fifth" $seeds s_0.toml
done
run doses "$session" 5 exact.toml
