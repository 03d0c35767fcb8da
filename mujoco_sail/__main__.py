"""`python -m mujoco_sail` is `mujoco-sail`."""

import sys

from mujoco_sail.cli import main

sys.exit(main())
