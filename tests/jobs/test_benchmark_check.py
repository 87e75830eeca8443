"""A Benchmark check by the real command, harness, engines and trainer: killed in its middle, and true to the model."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_run import EXAMPLES, MODEL, MOUNTS
from transformers import AutoModelForCausalLM

from selfalign_jobs.flow import Likelihood
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.continuation import Continuations
from selfalign_jobs.places.store import Folder, parts_of, read_manifest, read_parts, step_folder
from selfalign_jobs.recipes.benchmarks import ROLE, context_of
from selfalign_jobs.step.prepared import rows_of

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

STEP, LIMIT, PAIRS = "i1-evaluate", 60, 96
TURNS = [
    {"question_id": id, "category": category, "turns": [f"Reverse these words: {words}", f"Count these words: {words}"]}
    for id, category, words in ((81, "writing", "cow rake blue"), (82, "math", "red axe"))
]
TASKS = ("tiny_requests", "tiny_numbers", "tiny_words")


def selfalign(*arguments: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "COLUMNS": "160",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "selfalign_jobs.local.start", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def written(folder: Path, **gate: Any) -> Path:
    """The pairs' example on fewer pairs, which asks the tasks of the tiny language."""
    document = yaml.safe_load((EXAMPLES / "pairs-tiny.yaml").read_text())
    spec = document["spec"]
    pairs = (EXAMPLES / "tiny-model" / "preferences.jsonl").read_text().splitlines()[:PAIRS]
    (folder / "pairs.jsonl").write_text("\n".join(pairs) + "\n")
    spec["data"]["preferences"]["url"] = (folder / "pairs.jsonl").as_uri()
    tasks = {"tasks": [*TASKS], "tasksUrl": "pvc://selfalign/tiny-model/tasks", "limit": LIMIT, "prompts": "Chat"}
    questions = folder / "question.jsonl"
    questions.write_text("".join(json.dumps(question) + "\n" for question in TURNS))
    spec["evaluation"] |= {
        "checks": [
            {"name": "board", "type": "Benchmark", "benchmark": tasks},
            {"name": "mt", "type": "Export", "export": {"format": "MTBench", "questions": {"url": questions.as_uri()}}},
        ],
        "gates": [{"check": "board", **gate}],
    }
    spec["output"] = {"url": (folder / "published").as_uri()}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run's folder, and what was printed, after a kill once some requests have durable answers."""
    base = tmp_path_factory.mktemp("benchmark")
    command = (
        "run",
        written(base, figure="value", atLeast=0.05),
        "--mount",
        f"selfalign={EXAMPLES}",
        "--out",
        base / "out",
    )
    run = base / "out" / "default" / "pairs-tiny"
    folder = step_folder(Folder.open(run.as_uri()), 1, STEP)
    with selfalign(*command) as first:
        while first.poll() is None and not list(parts_of(folder, "benchmark-board")):
            time.sleep(0.05)
        assert first.poll() is None, first.communicate()[0]
        first.send_signal(signal.SIGKILL)
    while any(str(run) in line for line in processes()):
        time.sleep(0.1)
    before = list(parts_of(folder, "benchmark-board"))
    with selfalign(*command) as second:
        said = second.communicate()[0]
    assert second.returncode == 0, said
    assert set(before) <= {*parts_of(folder, "benchmark-board")}  # what was durable is kept
    return run, said


def processes() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def table(run: Path, name: str) -> list[dict[str, Any]]:
    folder = step_folder(Folder.open(run.as_uri()), 1, STEP)
    manifest = read_manifest(folder)
    assert manifest is not None
    rows: list[dict[str, Any]] = rows_of(read_parts(folder, manifest.tables[name])).to_pylist()
    return rows


@pytest.mark.parametrize("name", ["benchmark-board", "benchmark-board-initial"])
def test_each_request_is_answered_once(finished: tuple[Path, str], name: str) -> None:
    rows = table(finished[0], name)
    asked = Counter((row["task"], row["kind"]) for row in rows)
    assert asked == {
        ("tiny_requests", "generate_until"): LIMIT,
        ("tiny_numbers", "loglikelihood"): 2 * LIMIT,
        ("tiny_words", "loglikelihood_rolling"): LIMIT,
    }
    assert len({(row["task"], row["doc"], row["text"]) for row in rows}) == len(rows)


def test_likelihoods_are_those_of_the_model_itself(finished: tuple[Path, str]) -> None:
    chat = ModelChat.of(MODEL, None)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    texts = Continuations(chat, 256)
    for row in [row for row in table(finished[0], "benchmark-board-initial") if row["kind"] != "generate_until"][::9]:
        rolling = row["kind"] == "loglikelihood_rolling"
        asked = Likelihood(ROLE, None if rolling else context_of(row["context"]), row["text"])
        ids, tail = texts.likelihood(asked)
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        places = range(len(ids) - tail.tokens, len(ids))
        assert row["log_p"] == pytest.approx(sum(float(log_p[place - 1, ids[place]]) for place in places), abs=1e-3)
        assert row["greedy"] == all(int(log_p[place - 1].argmax()) == ids[place] for place in places)


def test_the_figures_are_those_of_the_harnesss_own_account(finished: tuple[Path, str]) -> None:
    run, said = finished
    account = json.loads((run / "iter-1" / STEP / "benchmarks" / "board.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    shown = {"tiny_requests.exact_match": 600, "tiny_numbers.acc": 600, "tiny_words.word_perplexity": 600}
    assert summary["benchmarks"].keys() == shown.keys()
    for name, found in summary["benchmarks"].items():
        task, _, metric = name.partition(".")
        for moment in ("before", "after"):
            told = account[moment]["results"][task]
            assert found[moment] == pytest.approx(told[f"{metric},none"], abs=1e-6)
            low, high = found[f"{moment}Interval"]
            assert (low is None) == (metric == "word_perplexity")  # of which the harness gives no standard error
            if metric != "word_perplexity":
                assert high - low == pytest.approx(2 * 1.959964 * told[f"{metric}_stderr,none"], abs=1e-5)
        assert math.isfinite(found["gain"])
        assert name in said
    assert summary["benchmarks"]["tiny_requests.exact_match"]["before"] > 0.3  # the chat template is its own


def test_both_turns_of_mt_bench_s_questions_are_answered(finished: tuple[Path, str]) -> None:
    lines = [json.loads(line) for line in (finished[0] / "exports" / "mt.jsonl").read_text().splitlines()]
    assert [line["question_id"] for line in lines] == [81, 82]
    assert all(len(line["choices"][0]["turns"]) == 2 for line in lines)
    assert all(turn for line in lines for turn in line["choices"][0]["turns"])


def test_a_gate_on_a_benchmark_is_held_against_each_metric_of_which_more_is_better(finished: tuple[Path, str]) -> None:
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert [gate["figure"] for gate in summary["gates"]] == [
        "board.tiny_requests.exact_match.after",
        "board.tiny_numbers.acc.after",
    ]
    assert all(gate["met"] for gate in summary["gates"])
    assert (finished[0].parents[2] / "published" / "config.json").exists()


def test_a_gate_that_is_not_passed_publishes_nothing(finished: tuple[Path, str], tmp_path: Path) -> None:
    file = written(tmp_path, figure="value", atLeast=1)
    document = yaml.safe_load(file.read_text())
    document["spec"]["data"]["preferences"]["url"] = (finished[0].parents[2] / "pairs.jsonl").as_uri()
    document["spec"]["storage"]["reuseFrom"] = [finished[0].as_uri()]
    file.write_text(yaml.safe_dump(document))
    with selfalign("run", file, "--mount", f"selfalign={MOUNTS['selfalign']}", "--out", tmp_path / "out") as process:
        said = process.communicate()[0]
    assert process.returncode == 64, said
    assert "board, tiny_requests, exact_match: value" in said.replace("\n", " ")
    assert not (tmp_path / "published" / "config.json").exists()


def test_an_unknown_task_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = written(tmp_path, figure="value", atLeast=0.05)
    file.write_text(file.read_text().replace("tiny_words", "tiny_wrds"))
    with selfalign("validate", file, "--mount", f"selfalign={EXAMPLES}") as process:
        said = process.communicate()[0]
    assert process.returncode == 64
    assert "did you mean tiny_words" in said.replace("\n", " ")
