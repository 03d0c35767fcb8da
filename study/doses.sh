#!/bin/sh
# Dose and response of docs/study.md; the same command goes on after a stop.
# usage: study/doses.sh ENVIRONMENT LABELS_PER_SESSION
cd "$(dirname "$0")/arms" || exit
env=$1 session=$2
run() { # seeds, agents
    mujoco-sail run --env "$env" --protocol study --seeds "$1" --set env.backend=envpool \
        --set env.steps=60000 --set env.log_every=2000 --set env.labels=$((25 * session)) \
        --set env.labels_per_session="$session" --results ../../results/doses --agents "$2" || exit
}
run 20 s_0.toml,s_0.03.toml,s_0.1.toml,s_0.5.toml
run 20 permuted_0.5.toml,reversed_0.5.toml
run 5 exact.toml
run 10 sac,random
