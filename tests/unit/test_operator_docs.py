"""docs/operator.md knows every reason that a person can meet, and docs/troubleshooting.md what to do and what is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from selfalign_operator.metrics import LOST_REASONS
from selfalign_operator.reasons import EventReason

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "operator" / "selfalign_operator").rglob("*.py"))
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
GOES_WELL = {
    "Accepted",
    "StepStarted",
    "StepSucceeded",
    "StepReused",
    "IterationFinished",
    "EndedEarly",
    "Suspended",
    "Resumed",
    "Completed",
}
TOLD_ONLY = {"StepRetrying", "Failed", "StatusRepaired"}  # the reason behind them is what matters
OF_KUBECTL = ("no matches for kind", "unknown field", "Invalid value: ")
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


def test_every_reason_of_trouble_has_a_row_that_says_what_to_do() -> None:
    meant = set(get_args(EventReason)) - GOES_WELL - TOLD_ONLY | set(LOST_REASONS) - {"Suspended", "Superseded"}
    assert meant - words(TROUBLESHOOTING) == set()


def test_what_the_rows_quote_is_what_is_said() -> None:
    code = "".join(
        file.read_text(encoding="utf-8")
        for folder in ("crds", "jobs", "operator")
        for file in (ROOT / folder).rglob("*.py")
    )
    said = re.sub(r'"\s*\n\s*f?"', "", code)
    tables = re.findall(r"^\| it says \|.*\n(?:^\|.*\n)+", TROUBLESHOOTING, re.MULTILINE)
    quoted = [quote for table in tables for quote in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)]
    parts = [
        part.strip() for quote in quoted if not any(word in quote for word in OF_KUBECTL) for part in quote.split("…")
    ]
    assert len(parts) > 8
    assert [part for part in parts if part not in said] == []


def test_every_reason_of_a_lost_attempt_is_explained_and_counted_from_0() -> None:
    given = {reason for source in SOURCES for reason in ENDING.findall(source.read_text(encoding="utf-8"))}
    assert given >= {"StepFailed", "Stalled", "Suspended"}
    assert given <= set(LOST_REASONS) <= words(DOCS)
