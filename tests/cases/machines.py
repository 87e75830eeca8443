"""Machines and habits as they are: environments, places, pipes."""

from __future__ import annotations

from cases.case import Case, with_spec

CASES = [
    Case("help", with_spec({}), command="selfalign --help", says=("validate", "report")),
]
