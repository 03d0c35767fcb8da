#!/bin/sh
# The comparison of RIME, REED and PoLiCER with PEBBLE of docs/study.md; the same command resumes
# after a stop.
cd "$(dirname "$0")/.." || exit
run() { # folder, environment, labels per session, agents, further options
    folder=$1 env=$2 session=$3 agents=$4
    shift 4
    mujoco-sail run --env "$env" --protocol study --seeds 10 --set env.backend=envpool \
        --set env.steps=60000 --set env.log_every=2000 --set env.labels=$((25 * session)) \
        --set env.labels_per_session="$session" --results "results/rivals/$folder" \
        --agents "$agents" "$@" || exit
}
for env in walker_walk cheetah_run quadruped_walk; do
    run labels_50 $env 2 sac,random
    for session in 2 10; do
        for agent in pebble reed policer rime; do
            run labels_$((25 * session)) $env $session $agent
        done
    done
done
for share in 0.1 0.3; do
    run mistake_$share walker_walk 10 pebble,rime --teacher mistake --set env.oracle.mistake=$share
done
