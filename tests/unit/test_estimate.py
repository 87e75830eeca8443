"""`selfalign estimate`: what it says is no less than what the tiny runs took, and adds up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cases.case import ON_CPU, REPOSITORY
from selfalign_api.load import load_run
from selfalign_api.plan import Generate, Plan, Train
from selfalign_api.run_file import GenerationMeans, Means, TrainingMeans
from selfalign_jobs.accept.program import examine
from selfalign_jobs.local.cli import main
from selfalign_jobs.local.estimate import Estimate, Weights, estimate, unsure
from selfalign_jobs.local.measured import Measured, Speed, Table, first_with_rows
from selfalign_jobs.local.show_estimate import duration, estimate_json, size, tokens
from selfalign_jobs.places.store import Folder

# Tokens read, written and trained on by each step of the examples, as their manifests have them.
TINY: dict[str, dict[str, tuple[int, int, int]]] = json.loads(
    (Path(__file__).parent / "finished_tiny_runs.json").read_text()
)
GPUS = Means(
    generation=GenerationMeans(device="GPU", replicas=2, tensor_parallel_size=2),
    training=TrainingMeans(device="GPU", nodes=2, gpus_per_node=8),
    evaluation=GenerationMeans(device="GPU"),
)
FIGURES = ("read", "written", "trained", "seconds", "gpu_hours", "stored")
EXAMPLES = REPOSITORY / "examples"
PLAN = examine(
    load_run(EXAMPLES / "selm-tiny.yaml"), ON_CPU, {"selfalign": str(EXAMPLES)}, EXAMPLES
).plan  # two iterations


def told(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command says as JSON."""
    mount = f"selfalign={EXAMPLES}"
    assert main(["estimate", *arguments, "--mount", mount, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("run", TINY)
def test_nothing_takes_more_than_was_said_to_be_the_most(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(str(EXAMPLES / f"{run}.yaml"), capsys=capsys)
    said = {step["name"]: [step[name] for name in ("read", "written", "trained")] for step in found["steps"]}
    assert said.keys() == TINY[run].keys()
    assert found["assumed"][0].startswith("each answer is assumed to take all of its role's maxTokens")
    for step, took in TINY[run].items():
        words = " ".join(each for each in found["assumed"] if each.startswith(f"{step}: "))
        for most, real in zip(said[step], took, strict=True):
            if most is None:
                assert "not told" in words
            elif "assumed to take" not in words:  # by what is like it
                assert real <= 1.02 * most, (step, most, real)  # lengths are those of the first rows


SURE = {
    "fspo-tiny": ["i1-train-sft", "i1-train"],
    "pairs-tiny": ["i1-train"],
    "pit-tiny": ["i1-train-improver", "i1-train-gap-model"],
}


@pytest.mark.parametrize("run", SURE)
def test_a_training_on_rows_of_ones_own_is_told_as_it_will_be(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(str(EXAMPLES / f"{run}.yaml"), capsys=capsys)
    trained = {step["name"]: step["trained"] for step in found["steps"]}
    for step in SURE[run]:
        assert trained[step] == pytest.approx(TINY[run][step][2], rel=0.05)


def test_the_requests_of_a_benchmark_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load((EXAMPLES / "pairs-tiny.yaml").read_text())
    tasks = {"tasks": ["tiny_words"], "tasksUrl": "pvc://selfalign/tiny-model/tasks", "limit": 10}
    checks = document["spec"]["evaluation"]["checks"]
    document["spec"]["evaluation"]["checks"] = [*checks, {"name": "board", "type": "Benchmark", "benchmark": tasks}]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    with_board = told(str(tmp_path / "run.yaml"), capsys=capsys)["steps"][-1]
    without = told(str(EXAMPLES / "pairs-tiny.yaml"), capsys=capsys)["steps"][-1]
    assert with_board["rows"] > without["rows"]
    assert with_board["read"] > without["read"]


def measured_of(plan: Plan, read: int = 40, written: int = 10, kept: int = 7) -> Measured:
    """All of a plan's tables and trainings, of ten records each, and how fast that was."""
    loads = [
        (step, job) for step in plan.steps if isinstance(step, Generate) for load in step.loads for job in load.jobs
    ]
    return Measured(
        tables={(step.name, job.out): Table(job.flow, 10, kept, {"respond": (read, written)}) for step, job in loads},
        row_tokens={step.name: 25.0 for step in plan.steps if isinstance(step, Train)},
        speeds={step.name: Speed(0.001, 30.0) for step in plan.steps},
    )


def of(rows: int, measured: Measured) -> Estimate:
    sizes = dict.fromkeys(PLAN.sources, rows)
    return estimate(
        PLAN,
        sizes,
        measured,
        Measured(),
        GPUS,
        Weights({step.name: 1e6 for step in PLAN.steps if isinstance(step, Train)}),
    )


counts = st.integers(0, 500)


@given(st.integers(10, 10_000), st.integers(0, 1000), counts, counts, st.integers(1, 10))
def test_more_rows_take_no_less_of_anything(rows: int, more: int, read: int, written: int, kept: int) -> None:
    measured = measured_of(PLAN, read, written, kept)
    fewer, all_of_them = of(rows, measured), of(rows + more, measured)
    for before, after in zip(fewer.steps, all_of_them.steps, strict=True):
        for figure in ("rows", "most", *FIGURES):
            assert getattr(before, figure) <= getattr(after, figure), (before.name, figure)


@given(st.integers(10, 10_000), counts, counts, st.integers(0, 10))
def test_together_is_the_sum_of_the_steps(rows: int, read: int, written: int, kept: int) -> None:
    found = of(rows, measured_of(PLAN, read, written, kept))
    for figure in FIGURES:
        assert found.total(figure) == sum(getattr(step, figure) for step in found.steps)
    assert all(step.rows <= step.most for step in found.steps)


def test_records_that_were_dropped_are_not_trained_on() -> None:
    all_of_them, half = (of(1000, measured_of(PLAN, kept=kept)).total("trained") or 0 for kept in (10, 5))
    assert half == pytest.approx(all_of_them / 4, rel=0.01)  # of two tables, one made of the other


def test_a_share_that_few_records_tell_is_said_with_its_interval_and_how_many_would_do() -> None:
    assert unsure(7, 40).startswith("7 of 40 measured records were kept: 9% to 32% of all will be (95 %), ")
    assert unsure(7, 40).endswith("; some 290 records tell it within 25%")
    assert unsure(0, 16).startswith("0 of 16 measured records were kept: 0% to 19% of all will be (95 %), ")
    assert unsure(340, 600) == unsure(40, 40) == ""


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(1, 50))
def test_more_records_of_a_share_tell_no_less_of_it(records: int, kept: int, times: int) -> None:
    kept = min(kept, records)
    if not unsure(kept, records):
        assert not unsure(kept * times, records * times)


def test_it_is_said_once_of_all_iterations() -> None:
    said = [words for words in of(1000, measured_of(PLAN, kept=3)).assumed if "measured records were kept" in words]
    assert said
    assert len(said) == len({words.split(", ")[0] for words in said})


def test_what_was_not_measured_is_not_told_and_said_to_be_missing() -> None:
    found = of(100, Measured())
    assert [found.total(figure) for figure in ("read", "written", "trained", "seconds", "gpu_hours")] == [None] * 5
    for step in found.steps:
        assert any(words.startswith(step.name) for words in found.assumed)
    assert estimate_json(found, price=2.0)["cost"] is None


def test_a_cost_is_gpu_hours_by_their_price() -> None:
    found = of(1000, measured_of(PLAN))
    hours = found.total("gpu_hours") or 0
    assert hours > 0
    assert estimate_json(found, price=2.5)["cost"] == round(2.5 * hours, 2)


def test_more_gpus_take_less_time_and_as_many_gpu_hours_but_for_what_each_start_takes() -> None:
    measured = measured_of(PLAN)
    measured = Measured(
        measured.tables, measured.made, measured.row_tokens, {step.name: Speed(0.001, 0) for step in PLAN.steps}
    )
    one = GPUS.model_copy(
        update={"generation": GenerationMeans(device="GPU"), "training": TrainingMeans(device="GPU", gpus_per_node=1)}
    )
    few, many = (
        estimate(PLAN, dict.fromkeys(PLAN.sources, 1000), measured, Measured(), means, Weights())
        for means in (one, GPUS)
    )
    assert (many.total("seconds") or 0) < (few.total("seconds") or 0)
    assert many.total("gpu_hours") == pytest.approx(few.total("gpu_hours"))


def test_figures_are_said_in_units_of_their_size() -> None:
    assert [tokens(n) for n in (0, 4321, 54_321, 7_654_321, 2.5e9)] == ["", "4,321", "54.3 k", "7.7 M", "2.5 B"]
    assert [duration(n) for n in (0, 45, 600, 7200)] == ["", "45 s", "10 min", "2.0 h"]
    assert [size(n) for n in (0, 2048, 3e6, 16.1e9, 2e12)] == ["", "2 kB", "3.0 MB", "16.1 GB", "2.0 TB"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "has no plan.json; write the folder that `selfalign run` printed"),
        ({"plan.json": PLAN}, "is a run of recipe selm, and this is one of pairs"),
        (
            {"plan.json": PLAN.model_copy(update={"recipe": "pairs"})},
            "has no finished step yet; wait for one, or write -n 50",
        ),
    ],
)
def test_a_run_that_tells_nothing_is_refused(
    tmp_path: Path, files: dict[str, Plan], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, plan in files.items():
        (tmp_path / name).write_text(plan.model_dump_json())
    mount = f"selfalign={EXAMPLES}"
    run = str(EXAMPLES / "pairs-tiny.yaml")
    assert main(["estimate", run, "--mount", mount, "--like", str(tmp_path)]) == 64
    said = capsys.readouterr().err
    assert says in said and "--like" in said


def test_rows_are_measured_of_the_first_part_that_has_any(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    for number, statuses in enumerate((["dropped", "dropped"], ["dropped", "rows"], ["rows"])):
        place = [{"prompt": f"{number}", "_source": each, "_status": status} for each, status in enumerate(statuses)]
        folder.write_table(f"part-{number}.parquet", pa.Table.from_pylist(place))
    parts = [f"part-{number}.parquet" for number in range(3)]
    found = first_with_rows(folder, parts)
    assert found is not None and found["prompt"].to_pylist() == ["1", "1"]
    assert first_with_rows(folder, parts[:1]) is None
