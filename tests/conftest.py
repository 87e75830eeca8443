"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# No timers in tests: the machine may be busy, and a slow example is no bug.
settings.register_profile("selfalign", deadline=None)
settings.load_profile("selfalign")
