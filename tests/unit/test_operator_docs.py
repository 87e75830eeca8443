"""docs/operator.md knows every reason that a person can meet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from selfalign_operator.metrics import LOST_REASONS
from selfalign_operator.reasons import EventReason

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "operator" / "selfalign_operator").rglob("*.py"))
ENDING = re.compile(r'Ending\(\s*"(\w+)"')
CONDITION = re.compile(r'condition\(\s*"\w+",\s*(?:"\w+"|\w+),\s*"(\w+)"')


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_every_reason_of_an_event_is_explained() -> None:
    assert set(get_args(EventReason)) - words(DOCS) == set()


def test_every_reason_of_an_event_is_given_somewhere() -> None:
    given = {
        word for source in SOURCES if source.name != "reasons.py" for word in words(source.read_text(encoding="utf-8"))
    }
    assert set(get_args(EventReason)) - given - {"ModelNotFound", "DataNotFound", "StorageInUse"} == set()


def test_every_reason_of_a_condition_is_explained() -> None:
    said = {reason for source in SOURCES for reason in CONDITION.findall(source.read_text(encoding="utf-8"))}
    assert said >= {"AllStepsDone", "Queued", "StepRetrying", "Held"}
    assert said - words(DOCS) == set()


def test_every_reason_of_a_lost_attempt_is_explained_and_counted_from_0() -> None:
    given = {reason for source in SOURCES for reason in ENDING.findall(source.read_text(encoding="utf-8"))}
    assert given >= {"StepFailed", "Stalled", "Suspended"}
    assert given <= set(LOST_REASONS) <= words(DOCS)
