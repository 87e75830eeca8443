"""Generation with the real vLLM on the tiny model: right rows, right scores, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from attempts import Attempt, is_actor
from tiny_run import MODEL, STEP, step_config, tiny_plan
from transformers import AutoModelForCausalLM

from selfalign_api.plan import FlowJob, Generate
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.places.store import Folder, Manifest, parts_of, read_manifest, read_parts, step_folder
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.template import render_template

PERSONAS, HELD_OUT = 400, 24

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


class Finished:
    """A step that is done: its manifest and tables."""

    def __init__(self, run: Path) -> None:
        self.folder = step_folder(Folder.open((run / "run").as_uri()), 1, STEP)
        manifest = read_manifest(self.folder)
        assert manifest is not None
        self.manifest: Manifest = manifest

    def records(self, table: str) -> pa.Table:
        return read_parts(self.folder, self.manifest.tables[table])

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = rows_of(self.records(table)).to_pylist()
        return rows


def attempt(run: Path, number: int) -> Attempt:
    return Attempt(run, step_config(tiny_plan(PERSONAS, HELD_OUT), run / "run", number), "vllm")


@pytest.fixture(scope="module", name="killed")
def _killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[int, str]]]:
    """A run whose first driver was killed, whose second one's actor was killed, each once something was durable.

    Also what was durable after each kill: source -> the record's line, as text.
    """
    run = tmp_path_factory.mktemp("vllm")
    folder = step_folder(Folder.open((run / "run").as_uri()), 1, STEP)

    def durable() -> dict[int, str]:
        lines: dict[int, str] = {}
        for part in parts_of(folder, "pairs"):
            for line in folder.read_table(part).to_pylist():
                lines[line["_source"]] = str(line)
        return lines

    first = attempt(run, 1)
    first.wait_until(lambda: bool(durable()))
    first.kill("driver")
    assert first.end() != 0
    after_driver = durable()

    second = attempt(run, 2)
    second.wait_until(lambda: len(durable()) > len(after_driver))
    second.kill("actor")
    after_actor = durable()
    assert second.end() == 0, second.output
    return run, [after_driver, after_actor]


@pytest.fixture(scope="module", name="done")
def _done(killed: tuple[Path, list[dict[int, str]]]) -> Finished:
    return Finished(killed[0])


@pytest.fixture(scope="module", name="chat")
def _chat() -> ModelChat:
    return ModelChat.of(MODEL, None)


@pytest.fixture(scope="module", name="model")
def _model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def pairs_job() -> FlowJob:
    step = tiny_plan(PERSONAS, HELD_OUT).steps[0]
    assert isinstance(step, Generate)
    return step.load.jobs[0]


def test_a_killed_driver_and_a_killed_actor_cost_nothing_durable(
    killed: tuple[Path, list[dict[int, str]]], done: Finished
) -> None:
    records = done.records("pairs")
    assert records["_source"].unique().sort().to_pylist() == list(range(PERSONAS))
    final = {line["_source"]: str(line) for line in records.to_pylist()}
    assert len(final) == records.num_rows
    after_driver, after_actor = killed[1]
    assert 0 < len(after_driver) < len(after_actor) < PERSONAS
    assert final.items() >= after_actor.items() >= after_driver.items()


def test_pairs_carry_what_was_generated(done: Finished, chat: ModelChat) -> None:
    rows = done.rows("pairs")
    assert len(rows) > 20
    for row in rows:
        assert row["prompt_ids"] == chat.encode(chat.text(row["prompt"]))
        assert row["chosen"] != row["rejected"]
        for side in ("chosen", "rejected"):
            assert chat.decode(tuple(row[f"{side}_ids"])) == row[side]
            assert (row[f"{side}_ids"][-1] == chat.end_id) == (row[f"{side}_finish"] == "stop")
        assert row["margin"] >= 0
        assert (row["p_first"] > 0.5) == row["first_chosen"]


def test_comparisons_equal_those_of_hugging_face(done: Finished, chat: ModelChat, model: Any) -> None:
    """log p of both candidate verdicts at their first differing token, in both orders, to 1e-4."""
    job = pairs_job()
    assert job.judge is not None
    template = job.roles["judge"].template
    assert template is not None
    for row in done.rows("pairs")[:32]:
        first, second = (row["chosen"], row["rejected"]) if row["first_chosen"] else (row["rejected"], row["chosen"])
        for order, (a, b), sign in (("forward", (first, second), 1), ("backward", (second, first), -1)):
            variables = {"prompt": row["prompt"], "first": a, "second": b, "criteria": job.judge.criteria}
            prompt = chat.text(render_template(template, variables))
            x, y = (chat.encode(prompt + render_template(verdict, variables)) for verdict in job.judge.verdicts)
            parting = next(place for place, (i, j) in enumerate(zip(x, y, strict=False)) if i != j)
            with torch.no_grad():
                logits = model(torch.tensor([x[:parting]])).logits[0, -1].double()
            log_p = logits.log_softmax(-1)
            expected = sign * float(log_p[x[parting]] - log_p[y[parting]])
            assert row[f"margin_{order}"] == pytest.approx(expected, abs=1e-4)


def test_greedy_answers_are_the_models_own(done: Finished, chat: ModelChat, model: Any) -> None:
    greedy = [row for row in done.rows("initial-answers") if row["role"] == "greedy"]
    assert len(greedy) > 10
    for row in greedy:
        prompt = chat.encode(chat.text(row["prompt"]))
        with torch.no_grad():
            ids = model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt) :]
        assert chat.decode(tuple(ids.tolist())) == row["answer"]


def test_the_manifest_counts_what_the_tables_hold(done: Finished) -> None:
    result = done.manifest.result
    assert result["records"] == {"pairs": PERSONAS, "initial-answers": HELD_OUT}
    assert result["rows"]["pairs"] == len(done.rows("pairs")) == done.manifest.tables["pairs"].rows
    assert sum(result["outcomes"]["pairs"].values()) == PERSONAS
    answers = done.rows("initial-answers")
    assert done.manifest.tokens["greedy.out"] == sum(row["tokens"] for row in answers if row["role"] == "greedy")
    assert done.manifest.versions["vllm"]
    assert done.manifest.attempt == 2
    assert result["tokensPerSecond"] > 0


def test_a_finished_step_starts_nothing(done: Finished, killed: tuple[Path, list[dict[int, str]]]) -> None:
    again = attempt(killed[0], 3)
    assert again.end() == 0
    assert not any(is_actor(process) for process in again.family)
    assert Finished(killed[0]).manifest == done.manifest
