"""Ids of environments: their families, and the ids of the same tasks in EnvPool."""

META_WORLD = "Meta-World/"
DM_CONTROL = "dm_control/"

# Family -> prefix of its ids; an id belongs to the first family whose prefix it has.
FAMILIES = {"DeepMind Control": DM_CONTROL, "Meta-World": META_WORLD, "Gymnasium": ""}

# Gymnasium id -> EnvPool id.
ENVPOOL_IDS = {
    "Meta-World/button-press-v3": "MetaWorld/ButtonPress-v3",
    "Meta-World/door-open-v3": "MetaWorld/DoorOpen-v3",
    "Meta-World/drawer-open-v3": "MetaWorld/DrawerOpen-v3",
    "Meta-World/window-open-v3": "MetaWorld/WindowOpen-v3",
    "dm_control/cheetah-run-v0": "CheetahRun-v1",
    "dm_control/humanoid-stand-v0": "HumanoidStand-v1",
    "dm_control/quadruped-run-v0": "QuadrupedRun-v1",
    "dm_control/quadruped-walk-v0": "QuadrupedWalk-v1",
    "dm_control/walker-stand-v0": "WalkerStand-v1",
    "dm_control/walker-walk-v0": "WalkerWalk-v1",
    "HalfCheetah-v5": "HalfCheetah-v5",
    "Pusher-v5": "Pusher-v5",
    "Reacher-v5": "Reacher-v5",
    "Swimmer-v5": "Swimmer-v5",
    "Walker2d-v5": "Walker2d-v5",
}


def family(id: str) -> str:
    """Family of an environment."""
    return next(name for name, prefix in FAMILIES.items() if id.startswith(prefix))


def has_success(id: str) -> bool:
    """Whether an environment defines when its task is solved."""
    return id.startswith(META_WORLD)
