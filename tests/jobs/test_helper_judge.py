"""A helper as judge, with the real vLLM: two engine loads of one step, each by its own model, and a kill between."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from attempts import Attempt
from tiny_run import EXAMPLES, MODEL, MOUNTS, STEP, step_config
from transformers import AutoModelForCausalLM

from selfalign_api.load import load_run
from selfalign_api.plan import Generate, Plan, job_of
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.places.store import Folder, parts_of, read_manifest, read_parts, step_folder
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.template import render_template

PERSONAS = 60

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def judged_plan(folder: Path) -> Plan:
    """The demo, judged by a copy of its model that is spoken to in another way."""
    judge = folder / "judge"
    shutil.copytree(MODEL, judge)
    template = (judge / "chat_template.jinja").read_text()
    (judge / "chat_template.jinja").write_text("Now judge. " + template)
    document = yaml.safe_load((EXAMPLES / "sao-tiny.yaml").read_text())
    spec = document["spec"]
    spec["auxiliaryModels"] = [{"name": "judge", "url": judge.as_uri()}]
    spec["judge"]["modelName"] = "judge"
    spec["data"]["personas"]["count"] = PERSONAS
    spec["evaluation"] = {"when": "Never"}
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    return resolve(load_run(folder / "run.yaml"), "CPU", MOUNTS, folder).plan


def test_a_helper_judges_what_the_policy_wrote_and_a_kill_between_costs_nothing(tmp_path: Path) -> None:
    plan = judged_plan(tmp_path)
    folder = step_folder(Folder.open((tmp_path / "run").as_uri()), 1, STEP)
    first = Attempt(tmp_path, step_config(plan, tmp_path / "run", 1), "vllm")
    first.wait_until(lambda: folder.exists("prepared/pairs.parquet"))  # the policy's load is over
    first.kill("everything")
    assert first.end() != 0
    written = list(parts_of(folder, "candidates"))
    second = Attempt(tmp_path, step_config(plan, tmp_path / "run", 2), "vllm")
    assert second.end() == 0, second.output
    assert list(parts_of(folder, "candidates")) == written

    manifest = read_manifest(folder)
    assert manifest is not None
    assert set(manifest.models) == {"policy/0", "judge/0"}
    candidates = rows_of(read_parts(folder, manifest.tables["candidates"])).to_pylist()
    records = read_parts(folder, manifest.tables["pairs"])
    assert sorted(records["_source"].to_pylist()) == list(range(len(candidates)))
    pairs = rows_of(records).to_pylist()
    assert pairs
    answers = {row["prompt"]: row for row in candidates}
    for row in pairs:
        made = answers[row["prompt"]]
        assert {row["chosen"], row["rejected"]} == {made["first"], made["second"]}
        assert (row["chosen"] == made["first"]) == row["first_chosen"]
        assert row["prompt_ids"] == ModelChat.of(MODEL, None).encode(ModelChat.of(MODEL, None).text(row["prompt"]))
        assert row["chosen_ids"] == made["first_ids" if row["first_chosen"] else "second_ids"]
    _check_margins(plan, tmp_path / "judge", pairs[:8])


def _check_margins(plan: Plan, judge: Path, pairs: list[dict[str, Any]]) -> None:
    """Verdicts are those of the helper, spoken to by its own template: those of Hugging Face's forward to 1e-4."""
    step = plan.step(STEP)
    assert isinstance(step, Generate)
    job = job_of(step, "pairs")
    assert job.judge is not None
    template = job.roles["judge"].template
    assert template is not None
    chat, model = ModelChat.of(judge, None), AutoModelForCausalLM.from_pretrained(judge, dtype=torch.float32).eval()
    for row in pairs:
        first, second = (row["chosen"], row["rejected"]) if row["first_chosen"] else (row["rejected"], row["chosen"])
        variables = {"prompt": row["prompt"], "first": first, "second": second, "criteria": job.judge.criteria}
        prompt = chat.text(render_template(template, variables))
        assert prompt.startswith("Now judge. ")
        x, y = (chat.encode(prompt + render_template(verdict, variables)) for verdict in job.judge.verdicts)
        parting = next(place for place, (i, j) in enumerate(zip(x, y, strict=False)) if i != j)
        with torch.no_grad():
            log_p = model(torch.tensor([x[:parting]])).logits[0, -1].double().log_softmax(-1)
        assert row["margin_forward"] == pytest.approx(float(log_p[x[parting]] - log_p[y[parting]]), abs=1e-4)
