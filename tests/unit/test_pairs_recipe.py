"""Recipe pairs: what is trained on of a table of one's own, and what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.plan import Evaluate, ModelRef, Prepare, SourceRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.recipes import evaluation
from selfalign_jobs.recipes.base import Step, recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import counts_of

PAIRS = recipe("pairs")


def method(**spec: Any) -> Method:
    document = {
        "apiVersion": "selfalign.dev/v1alpha1",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": "r"},
        "spec": {
            "recipe": "pairs",
            "model": {"url": "file:///m"},
            "data": {"preferences": {"url": "file:///p.jsonl"} | spec.pop("preferences", {})},
        }
        | spec,
    }
    return method_of(method_values(parse(SelfAlignmentRun, document, ""), "CPU", {}, Path()))


def table(rows: int, same: frozenset[int] = frozenset()) -> pa.Table:
    return pa.table(
        {
            "history": pa.nulls(rows, pa.string()),
            "prompt": [f"q{n}" for n in range(rows)],
            "chosen": [f"good {n}" for n in range(rows)],
            "rejected": [f"good {n}" if n in same else f"bad {n}" for n in range(rows)],
            "answers": [1 + n % 2 for n in range(rows)],
        }
    )


def made(prepare: Prepare, **sources: pa.Table) -> pa.Table:
    inputs = tuple(sources[ref.name] for ref in prepare.inputs if isinstance(ref, SourceRef))
    return PAIRS.prepares[prepare.fn].run(inputs, prepare.options)


def trainings(steps: tuple[Step, ...]) -> list[Train]:
    return [step for step in steps if isinstance(step, Train)]


@given(
    rows=st.integers(8, 60),
    iterations=st.integers(1, 4),
    window=st.sampled_from(["Current", "LastTwo", "All"]),
    draw=st.sampled_from(["Same", "Fresh"]),
    held=st.sampled_from(["given", "apart", "never"]),
    same=st.frozensets(st.integers(0, 7)),
    seed=st.integers(0, 2**63 - 1),
)
def test_each_row_has_one_fate_and_none_that_is_held_out_is_trained_on(
    rows: int, iterations: int, window: str, draw: str, held: str, same: frozenset[int], seed: int
) -> None:
    spec: dict[str, Any] = {"given": {"prompts": {"url": "file:///h.jsonl"}}, "apart": {}, "never": {"when": "Never"}}
    found = method(
        preferences={"draw": draw},
        iterations=iterations,
        seed=seed,
        iteration={"dataWindow": window},
        evaluation=spec[held],
    )
    source, asked = table(rows, same), pa.table({"prompt": [f"q{n}" for n in range(0, rows, 3)]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("selfalign_jobs.recipes.own_tables.HELD_OUT", 2)
        steps = PAIRS.plan(found)
    questions = {"given": asked["prompt"].to_pylist(), "never": []}
    for step in trainings(steps):
        try:
            pairs = made(step.data, preferences=source, evaluation=asked)
        except ConfigError:
            continue  # nothing is left, or there are too few rows: said before the run
        if held == "apart":
            evaluated = next(each for each in steps if isinstance(each, Evaluate))
            questions["apart"] = made(evaluated.loads[0].jobs[0].rows, preferences=source)["prompt"].to_pylist()
        prompts = pairs["prompt"].to_pylist()
        assert not set(prompts) & set(questions[held])
        assert len(set(prompts)) == len(prompts)  # a row of a window counts once
        assert not same & {int(prompt[1:]) for prompt in prompts}
        counts = counts_of(pairs)
        drawn = rows - (2 if held == "apart" else 0)
        parts = iterations if draw == "Fresh" else 1
        taken = len(step.data.options["window"]) * (drawn // parts)
        assert counts["pairs"] == len(prompts) == taken - counts["identical"] - counts["promptHeldOut"]
        assert counts["severalTurns"] == sum(int(prompt[1:]) % 2 for prompt in prompts)


def test_each_iteration_starts_from_and_refers_to_the_model_before_it_and_reads_its_part() -> None:
    steps = PAIRS.plan(method(iterations=3))
    assert [step.name for step in steps] == [f"i{k}-{what}" for k in (1, 2, 3) for what in ("train", "evaluate")]
    for k, step in enumerate(trainings(steps), 1):
        assert step.start == step.reference == ModelRef(iteration=k - 1)
        assert (step.data.options["window"], step.data.options["parts"]) == ([k - 1], 3)


def test_the_initial_model_answers_once_where_nothing_has_loaded_it_yet() -> None:
    steps = [step for step in PAIRS.plan(method(iterations=2)) if isinstance(step, Evaluate)]
    assert [[load.model.iteration for load in step.loads] for step in steps] == [[0, 1, 0], [2, 0]]
    assert {check.before.step for step in steps for check in step.checks} == {"i1-evaluate"}


def test_rows_that_go_on_with_a_conversation_are_no_questions() -> None:
    step = next(each for each in PAIRS.plan(method()) if isinstance(each, Evaluate))
    source = table(evaluation.HELD_OUT + 40)
    begun = source.set_column(0, "history", pa.array([None, "[]"] * (source.num_rows // 2), pa.string()))
    rows = step.loads[0].jobs[0].rows
    assert 0 < made(rows, preferences=begun).num_rows < evaluation.HELD_OUT
    late = source.set_column(0, "history", pa.array(["[]"] * source.num_rows, pa.string()))
    with pytest.raises(ConfigError, match="all go on with a conversation"):
        made(rows, preferences=late)


@pytest.mark.parametrize(
    ("loss", "reference"), [("dpo", True), ("ipo", True), ("hinge", True), ("simpo", False), ("orpo", False)]
)
def test_any_pairwise_loss_has_the_reference_that_it_needs(loss: str, reference: bool) -> None:
    (step,) = trainings(PAIRS.plan(method(training={"loss": {"type": loss}})))
    assert step.loss.type == loss
    assert (step.reference is not None) == reference


def test_a_table_whose_rows_all_fall_away_is_refused() -> None:
    (step,) = trainings(PAIRS.plan(method(evaluation={"prompts": {"url": "file:///h.jsonl"}})))
    with pytest.raises(ConfigError, match="no pair to train on among the 4 rows drawn: 2 have equal answers, of 2 the"):
        made(step.data, preferences=table(4, frozenset({0, 1})), evaluation=table(4).select(["prompt"]))
