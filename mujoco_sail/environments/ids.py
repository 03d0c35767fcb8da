"""Ids of environments: the prefix of each library, and the ids of the same tasks in EnvPool."""

META_WORLD = "Meta-World/"
DM_CONTROL = "dm_control/"

# Gymnasium id -> EnvPool id.
ENVPOOL_IDS = {
    "Meta-World/door-open-v3": "MetaWorld/DoorOpen-v3",
    "dm_control/cheetah-run-v0": "CheetahRun-v1",
    "dm_control/walker-stand-v0": "WalkerStand-v1",
    "dm_control/walker-walk-v0": "WalkerWalk-v1",
    "HalfCheetah-v5": "HalfCheetah-v5",
    "Pusher-v5": "Pusher-v5",
    "Reacher-v5": "Reacher-v5",
    "Swimmer-v5": "Swimmer-v5",
    "Walker2d-v5": "Walker2d-v5",
}
