#!/bin/sh
# The searches of docs/study.md; the same command resumes after a stop.
cd "$(dirname "$0")/candidates" || exit
run() {
    mujoco-sail run --env half_cheetah,walker2d --protocol study --seeds 10 --set env.steps=50000 \
        --set env.labels=120 --results ../../results/study_search --agents "$@"
}
run sac,random,pebble,pebble_rate_1e-4.toml,pebble_rate_1e-3.toml,\
sail,sail_lambda_1.toml,sail_lambda_10.toml,\
pebble_revkl_gamma_1e-4.toml,pebble_revkl_gamma_1e-3.toml,pebble_revkl_gamma_1e-2.toml \
    --set agent.sail.lambda_unit=fixed || exit
# With the lambda that the second search chose.
run sail_revkl_gamma_1e-4.toml,sail_revkl_gamma_1e-3.toml,sail_revkl_gamma_1e-2.toml
