"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# No timers in tests: the machine may be busy, and a slow example is no bug.
settings.register_profile("selfalign", deadline=None)
settings.load_profile("selfalign")

# A process that is killed loses nothing that is not on the disk yet, only a machine that stops does: no test stops it, and
# a busy disk takes tenths of a second for each.
os.fsync = lambda _: None

# As steps have it: two tests may train at a time (selfalign_jobs.machine).
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
