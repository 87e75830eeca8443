"""Failures: the message begins with what is wrong, in the run file's own spelling, and says what to write."""

from __future__ import annotations

from cases.case import Case, with_spec

CASES = [
    Case("a field that is no field", with_spec({"trainning": {}}), code=64, says=("spec.trainning",)),
]
