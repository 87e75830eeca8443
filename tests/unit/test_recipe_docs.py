"""The recipe of docs/recipes.md works: its values resolve, its plan is whole, and its flows give a pair as a helper says."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from test_sao_flow import ask_with, margins, play, said

from selfalign_api.load import load_run
from selfalign_api.plan import Generate, Plan, Train
from selfalign_api.sources import DataSource, ModelSource
from selfalign_jobs.accept import resolve
from selfalign_jobs.flow import Dropped, Row
from selfalign_jobs.recipes.base import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
RUN = """
apiVersion: selfalign.dev/v1alpha1
kind: SelfAlignmentRun
metadata: {name: a-run}
spec:
  recipe: sao
  model: {url: "file:///model"}
  auxiliaryModels: [{name: grader, url: "file:///grader"}]
  judge: {modelName: grader}
  data: {prompts: {url: "file:///prompts.jsonl", count: 100}}
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """What the page's Python makes."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    made: dict[str, object] = {}
    exec(code, made)
    found = made["RECIPE"]
    assert isinstance(found, Recipe)
    return found


def test_its_plan_generates_and_trains_on_what_was_generated(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "recipe", lambda name: recipe)
    method = resolve.method_of(resolve.method_values(load_run(RUN), "GPU", {}, Path()))
    model, prompts = ModelSource(url="file:///model", digest="sha256:1"), DataSource(digest="sha256:2")
    steps = recipe.plan(method)
    plan = Plan(
        version="0",
        name="a-run",
        recipe=recipe.name,
        seed=0,
        digest="sha256:0",
        models={"policy": model, "grader": model},
        sources={"prompts": prompts},
        steps=steps,
    )
    generate, train = steps
    assert isinstance(generate, Generate)
    assert isinstance(train, Train)
    assert train.loss.type == "dpo"
    assert [load.model.lineage for load in generate.loads] == ["policy", "grader"]
    jobs = [job for load in generate.loads for job in load.jobs]
    assert [ref.name for ref in train.data.inputs] == [jobs[-1].out]
    assert len({plan.step_digest(step.name) for step in steps}) == 2
    assert {job.flow for job in jobs} == set(recipe.flows)
    assert {train.data.fn, *(job.rows.fn for job in jobs)} == set(recipe.prepares)


@pytest.fixture
def answered(recipe: Recipe) -> Row:
    """A prompt that has been answered twice."""
    flow = recipe.flows["answer-twice"]
    _, rows = play(flow.run({"prompt": "why?"}, ask_with()), [said("one"), said("two")])
    (row,) = pa.Table.from_pylist(rows, schema=flow.schema).to_pylist()
    assert (row["first"], row["second"]) == ("one", "two")
    return row


def test_its_flows_give_the_pair_that_the_verdict_says(recipe: Recipe, answered: Row) -> None:
    flow = recipe.flows["best-of-two"]
    _, rows = play(flow.run(answered, ask_with()), margins(-3, -1))
    (pair,) = pa.Table.from_pylist(rows, schema=flow.schema).to_pylist()
    assert (pair["chosen"], pair["rejected"], pair["first_chosen"]) == ("two", "one", False)
    assert (pair["chosen_ids"], pair["prompt_ids"]) == (answered["second_ids"], answered["prompt_ids"])


def test_a_tie_gives_none(recipe: Recipe, answered: Row) -> None:
    with pytest.raises(Dropped):
        play(recipe.flows["best-of-two"].run(answered, ask_with()), margins(0, 0))
