"""Training: what a run file promises of it, and words about how it went."""

from __future__ import annotations

from cases.case import Case, with_spec

CASES = [
    Case("the base of all cases", with_spec({}), says=("would run here in 2 steps",)),
]
