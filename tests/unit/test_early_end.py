"""A loop that ends early: when its rounds bring nothing better, on one machine and on a cluster alike."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import played_shapes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_shapes import known, offline, played
from published import MEANS, asked, run_of
from reconcile_world import SPEC, World, finish, message, reason
from recorder import Recorder
from rich.console import Console

from selfalign_api.life import FailurePolicy, Tracking
from selfalign_api.method import Output
from selfalign_api.plan import Plan, Publish
from selfalign_api.rounds import VALUE, best_round, ends_after
from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.accept.resolve import publish_steps
from selfalign_jobs.entry import run_step
from selfalign_jobs.local.cli import is_evaluated
from selfalign_jobs.local.runner import LocalRun
from selfalign_jobs.places.store import Folder, read_manifest, step_folder, write_manifest, write_plan
from selfalign_jobs.publish.rounds import Rounds, rounds_of
from selfalign_jobs.report import finish_report, render_report, summary
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress

ROUNDS = 6
SHARES = st.integers(0, 10).map(lambda right: right / 10)
CURVES = st.lists(SHARES, min_size=ROUNDS, max_size=ROUNDS)
RISES_AND_FALLS = [0.4, 0.6, 0.5, 0.6, 0.7, 0.8]  # the fourth is no better than the second


# --- when -----------------------------------------------------------------------------------------------------------------


@given(st.lists(SHARES, min_size=1, max_size=12), st.integers(1, 6))
def test_it_ends_after_so_many_rounds_in_a_row_that_are_no_better_than_all_before(
    values: list[float], worse: int
) -> None:
    better = [max(values[:k], default=-1.0) < value for k, value in enumerate(values)]
    found = next((k for k in range(worse, len(values)) if not any(better[k - worse + 1 : k + 1])), None)
    assert ends_after(values, worse) == (None if found is None else found + 1)


@given(st.lists(SHARES, min_size=1, max_size=12), st.integers(1, 6))
def test_what_is_decided_of_some_rounds_stays_when_there_are_more(values: list[float], worse: int) -> None:
    ends = [ends_after(values[: k + 1], worse) for k in range(len(values))]
    assert len({end for end in ends if end is not None}) <= 1
    assert ends == sorted(ends, key=lambda end: end is not None)  # once over, always over


@pytest.mark.parametrize(("values", "end"), [
    ([], None), ([0.5], None), ([0.5, 0.5], 2), ([0.5, 0.6, 0.6], 3), ([0.1, 0.2, 0.3], None), ([0.5, 0.5 + 5e-7], 2),
])  # fmt: skip
def test_one_round_that_is_no_better_ends_it(values: list[float], end: int | None) -> None:
    assert ends_after(values, 1) == end


# --- on one machine -------------------------------------------------------------------------------------------------------


def looped(worse: int | None, output: Output | None = None) -> Plan:
    """Rounds of training and evaluation, the best of which is published."""
    plan = played_shapes.plan_of("offline", offline(ROUNDS))
    evaluation = asked(select_by="accuracy", stop_after_worse=worse)
    return Plan(**dict(plan) | {"steps": (*plan.steps, *publish_steps(plan.steps, output, evaluation, Path("/")))})


def left(tmp_path: Path, plan: Plan, values: list[float]) -> Folder:
    """The folder that a run leaves whose rounds have these values, as far as it goes."""
    with mock.patch.dict(played_shapes.SHAPES, {"offline": lambda: offline(ROUNDS)}):
        folder, _ = played(tmp_path, "offline")
    write_plan(folder, plan)
    for k, value in enumerate(values, start=1):
        place = step_folder(folder, k, f"i{k}-evaluate")
        manifest = read_manifest(place)
        assert manifest is not None
        figures = {name: figure | {"value": value} for name, figure in manifest.result["checks"].items()}
        write_manifest(place, manifest.model_copy(update={"result": manifest.result | {"checks": figures}}))
        step_folder(folder, k, f"i{k}-train").write("model/README.md", f"# Model {k}\n".encode())
    rounds = rounds_of(folder, plan)
    assert rounds is not None
    for k in {step.iteration for step in plan.steps if rounds.leave_out(step)}:
        shutil.rmtree(tmp_path / "offline" / f"iter-{k}")
    return folder


def test_the_best_round_until_the_end_is_published_and_all_say_that_it_ended_early(tmp_path: Path) -> None:
    target = tmp_path / "published"
    with known("offline"):
        plan = looped(2, Output(url=target.as_uri()))
        folder = left(tmp_path, plan, RISES_AND_FALLS)
        (step,) = [step for step in plan.steps if isinstance(step, Publish)]
        assert is_evaluated(folder, plan)
        run_of(folder, plan, step)
        found, page = summary(folder, plan), render_report(folder, plan)
        finish_report(folder, plan, Console(file=StringIO()))
    values = {str(k): value for k, value in enumerate(RISES_AND_FALLS[:4], start=1)}
    assert found["chosen"] == {"iteration": 2, "selectBy": "accuracy", "values": values, "loopEndedAfter": 4}
    assert found["finished"] is True
    assert "The loop ended after iteration 4 of 6: the last 2 iterations brought no better value." in page
    assert "not finished" not in page
    assert (target / "README.md").read_text().startswith("# Model 2")
    assert json.loads((target / "selfalign.json").read_bytes())["values"] == values


@given(CURVES, st.integers(1, ROUNDS - 2) | st.none())
def test_without_the_field_or_with_rounds_that_rise_every_round_is_a_candidate(
    values: list[float], worse: int | None
) -> None:
    plan = looped(worse)
    rounds = rounds_with(plan, dict(enumerate(values, start=1)))
    end = None if worse is None else ends_after(values, worse)
    assert [each.iteration for each in rounds.candidates] == list(range(1, (end or ROUNDS) + 1))
    assert rounds.chosen.iteration == best_round(values[: end or ROUNDS])
    assert {step.iteration for step in plan.steps if rounds.leave_out(step)} == set(
        range((end or ROUNDS) + 1, ROUNDS + 1)
    )
    assert not rounds.leave_out(plan.steps[-1])


def test_the_field_is_part_of_no_step_s_digest_but_of_that_which_publishes() -> None:
    unset, two = looped(None), looped(2)
    assert "stop_after_worse" not in unset.steps[-1].model_dump(mode="json")
    others = {step.name for step in two.steps if two.step_digest(step.name) != unset.step_digest(step.name)}
    assert others == {"select"}


def rounds_with(plan: Plan, values: dict[int, float]) -> Rounds:
    (accuracy,) = plan.steps[1].checks  # type: ignore[union-attr]
    (step,) = [step for step in plan.steps if isinstance(step, Publish)]
    names = [f"accuracy.{role}.after" for role in ("greedy", "sampled")]
    figures = {k: {name: {"value": value} for name in names} for k, value in values.items()}
    return Rounds(step, {"accuracy": accuracy}, figures)


def test_an_evaluation_that_is_missing_is_told_and_ends_nothing() -> None:
    rounds = rounds_with(looped(1), {1: 0.5, 3: 0.4})
    assert (rounds.ended_after, rounds.missing) == (None, 2)
    assert rounds_with(looped(1), {1: 0.5, 2: 0.4}).missing is None


def test_the_local_loop_leaves_the_steps_out_and_a_second_time_too(tmp_path: Path) -> None:
    script = {step: ["done"] for k in range(1, ROUNDS + 1) for step in (f"i{k}-train", f"i{k}-evaluate")}
    script |= {"i1-evaluate": ["accuracy=0.6"], "i2-evaluate": ["accuracy=0.5"], "i3-evaluate": ["accuracy=0.9"]}
    (tmp_path / "script.json").write_text(json.dumps(script | {"select": ["done"]}))
    plan = by_win_rate(looped(1))
    write_plan(Folder.open(tmp_path.as_uri()), plan)
    run = LocalRun(
        plan, RunFile(run={}, storage=tmp_path.as_uri(), means=MEANS), tmp_path, FailurePolicy(), Recorder(),
        program=(sys.executable, str(Path(__file__).with_name("fake_step.py"))),
    )  # fmt: skip
    done = [name for k in (1, 2) for name in (f"i{k}-train", f"i{k}-evaluate")]
    skipped = [f"left out {name}" for k in range(3, ROUNDS + 1) for name in (f"i{k}-train", f"i{k}-evaluate")]
    first, again = Recorder(), Recorder()
    assert replace(run, watcher=first).run()
    replace(run, watcher=again).run()
    made = [f"{told} {name}{attempt}" for name in done for told, attempt in (("started", " 1"), ("finished", ""))]
    assert first.told == [*made, *skipped, "started select 1", "finished select"]
    assert again.told[: len(done) + len(skipped)] == [*(f"found {name}" for name in done), *skipped]


def by_win_rate(plan: Plan) -> Plan:
    """The same with a check that has one figure, of its own name."""
    steps = [
        step.model_copy(update={"checks": tuple(c.model_copy(update={"type": "SelfWinRate"}) for c in step.checks)})
        if step.kind == "evaluate"
        else step
        for step in plan.steps
    ]
    return plan.model_copy(update={"steps": tuple(steps)})


@pytest.mark.parametrize(
    "tracking", [None, Tracking(type="MLflow", url="http://127.0.0.1:9")], ids=["", "server is down"]
)
def test_an_evaluation_s_summary_has_its_round_s_value_where_a_check_selects(
    tmp_path: Path, tracking: Tracking | None
) -> None:
    with known("offline"):
        plan = looped(2)
        folder = left(tmp_path, plan, RISES_AND_FALLS)
        said = {}
        for name in ("i2-evaluate", "i2-train"):
            config = StepConfig(plan=plan, step=name, attempt=1, storage=f"file://{folder.path}", means=MEANS)
            said[name] = run_step(StepContext.of(config, Progress(name), threading.Event()), tracking)["result"]
    assert next(iter(said["i2-evaluate"].items())) == (VALUE, 0.6)  # what is too long is cut from the end
    assert VALUE not in said["i2-train"]


# --- on a cluster ---------------------------------------------------------------------------------------------------------

STEPS = [(f"i{k}-{kind}", kind, k) for k in range(1, ROUNDS + 1) for kind in ("generate", "train", "evaluate")]


def world_of(values: list[float], worse: int | None, **spec: Any) -> World:
    evaluation: dict[str, Any] = {"selectBy": "win"} | ({} if worse is None else {"stopAfterWorse": worse})
    return World(
        spec=SPEC | {"iterations": ROUNDS, "evaluation": evaluation} | spec,
        steps=[*STEPS, ("publish", "publish", ROUNDS)],
        results={f"i{k}-evaluate": {VALUE: value} for k, value in enumerate(values, start=1)},
    )


def run_to_its_end(world: World) -> list[str]:
    """The steps that were made, in their order."""
    while not world.status.has_ended:
        finish(world)
    return [name.removeprefix("run-").removesuffix("-1") for name in world.made]


@settings(max_examples=40)
@given(CURVES, st.integers(1, ROUNDS - 2) | st.none())
def test_the_operator_ends_the_loop_where_one_machine_would(values: list[float], worse: int | None) -> None:
    world = world_of(values, worse)
    end = (None if worse is None else ends_after(values, worse)) or ROUNDS
    assert run_to_its_end(world) == ["accept", *(name for name, _, k in STEPS if k <= end), "publish"]
    skipped = {step.name for step in world.status.steps if step.state == "Skipped"}
    assert skipped == {name for name, _, k in STEPS if k > end}
    assert (world.status.state, world.status.iteration) == ("Complete", f"{end}/{end}")
    assert ("EndedEarly" in world.events) == bool(skipped)


def test_a_run_that_ended_early_says_what_it_left_out() -> None:
    world = world_of(RISES_AND_FALLS, 1)
    run_to_its_end(world)
    assert reason(world, "Complete") == ("True", "AllStepsDone")
    assert message(world, "Complete") == "10 steps are done, 9 were left out as the loop ended early"
    step = world.status.step("i4-generate")
    assert step is not None
    assert step.message == "the loop has ended after iteration 3: 1 in a row brought no better value"


@pytest.mark.parametrize("cut", ["created", "status"])
def test_an_operator_that_dies_as_the_loop_ends_makes_nothing_more_of_it(cut: str) -> None:
    world = world_of(RISES_AND_FALLS, 1)
    world.complete(world.until("i3-evaluate"))
    world.turn(cut=cut)
    assert run_to_its_end(world)[-1] == "publish"
    assert "run-i4-generate-1" not in world.made
    assert world.made.count("run-publish-1") == 1


@pytest.mark.parametrize("told", ["nan", "inf", "much", "", None], ids=str)
def test_a_value_that_is_none_ends_nothing(told: str | None) -> None:
    world = world_of(RISES_AND_FALLS, 1)
    world.until("i3-evaluate")
    steps = tuple(
        step.model_copy(update={"result": tuple(
            figure.model_copy(update={"value": told}) for figure in step.result if told is not None
        )}) if step.name == "i2-evaluate" else step
        for step in world.status.steps
    )  # fmt: skip
    world.status = world.status.model_copy(update={"steps": steps})
    assert "i6-evaluate" in run_to_its_end(world)


def test_a_loop_that_has_ended_is_held_before_no_step_of_it() -> None:
    world = world_of(RISES_AND_FALLS, 1, holdBefore="train")
    for k in (1, 2, 3):
        world.annotations = {"selfalign.dev/proceed": f"i{k}-train"}
        world.complete(world.until(f"i{k}-evaluate"))
    assert run_to_its_end(world)[-1] == "publish"
