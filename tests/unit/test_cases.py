"""What people bring, without those cases that start an engine: `make cases` tries all, as processes (tests/cases)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cases.case import Case, Room
from cases.kinds import KINDS
from cases.trial import in_process, try_case

CHEAP = {f"{kind}/{case.name}": case for kind, cases in KINDS.items() for case in cases if not case.engine}


@pytest.mark.parametrize("case", CHEAP.values(), ids=CHEAP)
def test_what_people_bring_gives_what_is_right(case: Case, tmp_path: Path) -> None:
    assert try_case(case, Room(tmp_path / "room"), in_process) == []


def test_a_case_that_is_not_right_is_told(tmp_path: Path) -> None:
    """Each thing that can be wrong is seen: the code, the words, the value."""
    good = KINDS["tables"][0].write
    for number, wrong in enumerate(
        [
            Case("code", good, code=64),
            Case("words", good, says=("what nobody says",)),
            Case("never", good, never=("would run here",)),
            Case("value", good, reads={"personas": {"persona": ["nobody"]}}),
            Case("left", good, holds=lambda room: [f"{room.out} is not there"]),
        ]
    ):
        assert len(try_case(wrong, Room(tmp_path / str(number)), in_process)) == 1, wrong.name
    # The names are how cases are asked for.
    names = [f"{kind}/{case.name}" for kind, cases in KINDS.items() for case in cases]
    assert len(set(names)) == len(names)
