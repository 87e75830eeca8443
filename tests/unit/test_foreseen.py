"""What a run comes to at most, before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.case import ON_CPU, REPOSITORY, Room
from cases.responders import PROMPTS, with_responders
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import Train
from selfalign_jobs.accept.foreseen import most_pairs, most_steps
from selfalign_jobs.accept.program import examine
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.recipes.tables import draw, rows_drawn


def resolved(tmp_path: Path, **changes: Any) -> Resolved:
    run = Room(tmp_path).run(changes)
    return examine(load_run(run), ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)


def trainings(found: Resolved) -> list[tuple[int, int]]:
    """(pairs, steps) of each, at most."""
    steps = [step for step in found.plan.steps if isinstance(step, Train)]
    return [(most_pairs(found.plan, s, found.rows), most_steps(found.plan, s, found.rows)) for s in steps]


@given(st.integers(0, 60), st.integers(0, 20), st.integers(1, 4), st.none() | st.integers(1, 30), st.data())
def test_as_many_rows_are_foreseen_as_are_drawn(
    rows: int, apart: int, parts: int, count: int | None, data: st.DataObject
) -> None:
    part = data.draw(st.integers(0, parts - 1))
    options = {"seed": 1, "apart": apart, "part": part, "parts": parts, "count": count, "blank": False}
    try:
        drawn = draw((pa.table({"persona": [str(n) for n in range(rows)]}),), options)
    except ConfigError:
        return
    assert drawn.num_rows == rows_drawn(rows, options)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(48, 6)]),
        ({"training.epochs": 2.5}, [(48, 15)]),
        ({"training.globalBatchSize": 512}, [(48, 1)]),
        ({"iterations": 3, "iteration.dataWindow": "All"}, [(48, 6), (96, 12), (144, 18)]),
        ({"iterations": 3, "iteration.dataWindow": "LastTwo"}, [(48, 6), (96, 12), (96, 12)]),
        ({"iterations": 2, "iteration.dataWindow": "All", "iteration.maxNewPairs": 20}, [(20, 3), (40, 5)]),
    ],
)
def test_pairs_and_steps_of_each_training(
    tmp_path: Path, changes: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    assert trainings(resolved(tmp_path, **changes)) == expected


def test_prompts_that_an_evaluation_is_given_are_counted(tmp_path: Path) -> None:
    room = Room(tmp_path)
    asked = {"url": room.lines("asked.jsonl", [{"prompt": f"What is {n}?"} for n in range(40)])}
    found = resolved(tmp_path, **{"evaluation": {"when": "Last", "prompts": asked}})
    assert found.notes == ("The evaluation has 40 prompts: an interval of 95 % is up to ±0.15 wide.",)
    assert trainings(found) == [(48, 6)]


def test_a_run_as_it_should_be_has_no_notes_and_an_odd_one_each_of_its_own_once(tmp_path: Path) -> None:
    assert resolved(tmp_path).notes == ()
    odd = {"iterations": 2, "training.globalBatchSize": 512, "training.learningRate": 1e6}
    assert len(resolved(tmp_path, **odd).notes) == 2


@pytest.mark.parametrize(("held", "notes"), [(4, 0), (5, 1), (39, 1)])
def test_prompts_that_are_held_out_too_are_told(tmp_path: Path, held: int, notes: int) -> None:
    assert len([note for note in _held(tmp_path, held).notes if "held out" in note]) == notes


def test_prompts_that_are_all_held_out_leave_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spec.evaluation.prompts.url: .*holds all 40 prompts that i1-train draws"):
        _held(tmp_path, 40)


def _held(tmp_path: Path, held: int) -> Resolved:
    """40 prompts to train on, of which so many are held out too."""
    room = Room(tmp_path)
    prompts = [{"prompt": f"What is {n}?"} for n in range(200)]
    asked = room.lines("asked.jsonl", prompts[40 - held : 200 - held])
    data = {"prompts": {"url": room.lines("given.jsonl", prompts[:40]), "count": 40}}
    return resolved(tmp_path, **{"data": data, "evaluation": {"when": "Last", "prompts": {"url": asked}}})


@pytest.mark.parametrize(("options", "kinds"), [({}, 3), ({"pairs": "Neighbours"}, 2)])
def test_each_prompt_that_responders_answer_makes_as_many_comparisons_as_there_are_kinds(
    tmp_path: Path, options: dict[str, Any], kinds: int
) -> None:
    run = with_responders(options=options)(Room(tmp_path))
    found = examine(load_run(run), ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)
    assert [pairs for pairs, _ in trainings(found)] == [kinds * len(PROMPTS), len(PROMPTS)]
