#!/bin/sh
# The controls of docs/study.md; the same command resumes after a stop.
cd "$(dirname "$0")/arms" || exit
run() { # folder, agents, further options
    folder=$1 agents=$2
    shift 2
    mujoco-sail run --env walker_walk --protocol study --seeds 20 --set env.backend=envpool \
        --set env.steps=60000 --set env.log_every=2000 --results "../../results/controls/$folder" \
        --agents "$agents" "$@" || exit
}
run labels_250 uniform.toml,pebble --keep-preferences # the pairs are for the data set
run labels_250 sac,random --seeds 10
run labels_50 uniform.toml,surf,qpa --set env.labels=50 --set env.labels_per_session=2 \
    --set agent.surf.queries=uniform --set agent.qpa.queries=uniform
run labels_100 uniform.toml --set env.labels=100 --set env.labels_per_session=4
run labels_1000 uniform.toml --set env.labels=1000 --set env.labels_per_session=40
run no_exploration uniform.toml --set env.exploration_steps=0
run noisy uniform.toml --teacher noisy
run mistake uniform.toml --teacher mistake
