"""One YAML, one machine: the real command, engine, trainer and evaluation; killed in the middle, resumed, run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign_api.plan import Plan
from selfalign_jobs.places.store import Folder, read_manifest, read_parts, step_folder

REPOSITORY = Path(__file__).parents[2]
PERSONAS = 1500  # enough for a gain that no interval of 600 questions hides
pytestmark = pytest.mark.heavy


def selfalign(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "selfalign_jobs.local.start", *map(str, arguments)]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return os.environ | {"PYTHONPATH": paths, "COLUMNS": "160"}


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The README's command, with fewer personas."""
    folder = tmp_path_factory.mktemp("run")
    text = (REPOSITORY / "examples" / "sao-tiny.yaml").read_text()
    assert "count: 6000" in text
    (folder / "run.yaml").write_text(text.replace("count: 6000", f"count: {PERSONAS}"))
    mount = f"selfalign={REPOSITORY / 'examples'}"
    return selfalign("run", folder / "run.yaml", "--mount", mount, "--out", folder / "out")


@pytest.fixture(scope="module")
def killed(command: list[str], environment: dict[str, str]) -> Path:
    """The run's folder after a kill -9 of the runner while it generates, with some records durable."""
    run = Path(command[-1]) / "default" / "sao-tiny"
    parts = run / "iter-1" / "i1-generate" / "parts"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None and not any(parts.glob("**/*.parquet")):
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()[0].decode()
        process.send_signal(signal.SIGKILL)
    wait_for_orphans(run)
    return run


def wait_for_orphans(run: Path) -> None:
    """The killed runner's step ends by itself (PR_SET_PDEATHSIG)."""
    while any(str(run) in command for command in commands()):
        time.sleep(0.1)


def commands() -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


@pytest.fixture(scope="module")
def finished(killed: Path, command: list[str], environment: dict[str, str]) -> tuple[Path, str]:
    """The same command again, to the end: the run's folder and what it printed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return killed, done.stdout


@pytest.fixture(scope="module")
def summary(finished: tuple[Path, str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((finished[0] / "summary.json").read_text())
    return document


def test_the_model_gets_better_without_seeing_an_answer(summary: dict[str, Any]) -> None:
    sampled = summary["accuracy"]["sampled"]
    assert sampled["gainInterval"][0] > 0.05, sampled


def test_a_resumed_run_says_what_it_found(finished: tuple[Path, str]) -> None:
    assert "found this run's artefacts" in finished[1]


def test_no_record_is_lost_or_doubled_by_the_kill(finished: tuple[Path, str]) -> None:
    run = Folder.open(finished[0].as_uri())
    plan = Plan.model_validate_json(run.read("plan.json"))
    folder = step_folder(run, 1, "i1-generate")
    manifest = read_manifest(folder)
    assert manifest is not None
    table = read_parts(folder, manifest.tables["pairs"])
    counts = Counter(table["_source"].to_pylist())
    assert sorted(counts) == list(range(PERSONAS))
    assert max(counts.values()) == 1
    assert manifest.attempt == 2
    assert manifest.digest == plan.step_digest("i1-generate")


def test_the_trained_model_is_a_plain_hugging_face_folder(finished: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = finished[0] / "iter-1" / "i1-train" / "model"
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.chat_template
    assert AutoModelForCausalLM.from_pretrained(model).generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_end_shows_a_table_and_the_report(finished: tuple[Path, str]) -> None:
    run, printed = finished
    assert "accuracy, sampled" in printed
    assert f"report: {run}/report.html" in printed
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_a_preview_shows_the_first_records_and_keeps_nothing(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    look = selfalign("preview", command[4], *command[5:7], "-n", "3")
    done = subprocess.run(look, env=environment | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("persona: ") == 3
    assert re.search(r"record 3( .*)?\n  persona: ", done.stdout)
    assert done.stdout.count("reference: ") == 6  # of three held-out prompts, at two temperatures
    assert [path for path in tmp_path.iterdir() if "selfalign" in path.name] == []


def told(*arguments: str | Path, environment: dict[str, str]) -> dict[str, Any]:
    """What an estimate says of each step."""
    mount = f"selfalign={REPOSITORY / 'examples'}"
    done = subprocess.run(
        selfalign("estimate", *arguments, "--mount", mount, "--json"), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_estimate_by_a_few_records_is_near_what_the_run_took(
    finished: tuple[Path, str], command: list[str], environment: dict[str, str]
) -> None:
    took = {}
    run = Folder.open(finished[0].as_uri())
    for name in ("i1-generate", "i1-train", "i1-evaluate"):
        manifest = read_manifest(step_folder(run, 1, name))
        assert manifest is not None
        ways = {way: sum(n for role, n in manifest.tokens.items() if role.endswith(way)) for way in (".in", ".out")}
        took[name] = (ways[".in"], ways[".out"], manifest.tokens.get("train", 0))
    found = told(command[4], "-n", "60", environment=environment)
    for step in found["steps"]:
        assert [step["read"], step["written"], step["trained"]] == pytest.approx(took[step["name"]], rel=0.25), step


def test_an_estimate_by_a_smaller_run_is_near_what_the_whole_example_took(
    finished: tuple[Path, str], environment: dict[str, str]
) -> None:
    took = json.loads((REPOSITORY / "tests" / "unit" / "finished_tiny_runs.json").read_text())["sao-tiny"]
    found = told(REPOSITORY / "examples" / "sao-tiny.yaml", "--like", finished[0], environment=environment)
    for step in found["steps"]:
        assert [step["read"], step["written"], step["trained"]] == pytest.approx(took[step["name"]], rel=0.25), step
        assert step["seconds"] > 0


def test_a_finished_run_starts_no_step(
    finished: tuple[Path, str], command: list[str], environment: dict[str, str]
) -> None:
    run, _ = finished
    before = sorted((run / "attempts").glob("*/*"))
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert sorted((run / "attempts").glob("*/*")) == before
    assert again.stdout.count("found finished") == 3


# --- gates --------------------------------------------------------------------------------------------------------------

GATED = """    gates: [{check: accuracy, figure: low, atLeast: 0.01}]
  output: {url: ./published, datasetUrl: ./published-pairs}
"""


def refused(folder: Path, environment: dict[str, str], *changes: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """The example with these changes and a gate on what it gains beyond chance, to its end."""
    text = (REPOSITORY / "examples" / "sao-tiny.yaml").read_text()
    for old, new in (("  storage:", f"{GATED}  storage:"), *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "run.yaml").write_text(text)
    mount = f"selfalign={REPOSITORY / 'examples'}"
    command = selfalign("run", folder / "run.yaml", "--mount", mount, "--out", folder / "out")
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def published_nothing(folder: Path, done: subprocess.CompletedProcess[str]) -> bool:
    """It ended as GateNotPassed does, once, with the figures in words, in the report too; and nothing is published."""
    run = folder / "out" / "default" / "sao-tiny"
    assert done.returncode == 64, done.stdout + done.stderr
    assert "spec.evaluation.gates[0]: accuracy at T = 0: low " in done.stderr
    assert "asked: at least +0.01; nothing was published" in done.stderr
    assert "Gate not passed:" in (run / "report.html").read_text()
    assert [path.name for path in (run / "attempts" / "publish").iterdir()] == ["1"]
    return not [path for path in folder.glob("published*/**/*") if path.is_file()]


def test_a_judge_at_random_publishes_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    lines = (REPOSITORY / "examples" / "tiny-model" / "heldout.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "heldout.jsonl").write_text("".join(lines[:150]))
    done = refused(
        tmp_path,
        environment,
        ("count: 6000", "count: 100"),
        ("method: logprobs", "method: random"),
        ("""    verdicts: ["{{ first }} [[A]]", "{{ second }} [[B]]"]\n""", ""),
        ("pvc://selfalign/tiny-model/heldout.jsonl", "./heldout.jsonl"),
    )
    assert published_nothing(tmp_path, done)


def test_a_learning_rate_that_breaks_the_model_publishes_nothing(
    finished: tuple[Path, str], environment: dict[str, str], tmp_path: Path
) -> None:
    """On the pairs that made it better."""
    reuse = f"  storage: {{reuseFrom: [{finished[0].as_uri()}], "
    done = refused(
        tmp_path,
        environment,
        ("count: 6000", f"count: {PERSONAS}"),
        ("learningRate: 3e-4", "learningRate: 5e-3"),
        ("epochs: 3", "epochs: 1"),
        ("  storage: {", reuse),
    )
    assert published_nothing(tmp_path, done)
    assert "i1-generate: found finished" in done.stdout
