"""A real instruct model, fetched and converted, goes through SAO: real template, long answers, prefixes missed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.heavy
# Eight personas would give no prompt with the prefix, so the short form does not ask for it.
SHORTER = {
    "count: 64": "count: 8",
    "maxTokens: 96": "maxTokens: 24",
    'outputPrefix: "User prompt:"': 'outputPrefix: ""',
}


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the converted model as `smollm2`; the package itself comes from the cache after the first time."""
    folder = tmp_path_factory.mktemp("mount")
    program = REPOSITORY / "examples" / "smollm2" / "fetch.py"
    subprocess.run([sys.executable, program, "--out", folder / "smollm2"], check=True)
    return folder


def test_the_converted_model_answers_and_stops_at_its_end_of_turn(mount: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(mount / "smollm2")
    model = AutoModelForCausalLM.from_pretrained(mount / "smollm2")
    assert model.dtype == torch.bfloat16
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**prompt, do_sample=False, max_new_tokens=32)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(said)
    assert said[-1] == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_short_form_of_the_run_makes_pairs_and_a_model(mount: Path, tmp_path: Path) -> None:
    text = (REPOSITORY / "examples" / "sao-smollm2.yaml").read_text()
    for whole, short in SHORTER.items():
        assert whole in text
        text = text.replace(whole, short)
    (tmp_path / "run.yaml").write_text(text)
    command = [sys.executable, "-m", "selfalign_jobs.local.start", "run", tmp_path / "run.yaml"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run(
        [*command, "--mount", f"selfalign={mount}", "--out", tmp_path / "out"], check=True, env=environment, timeout=600
    )
    run = tmp_path / "out" / "default" / "sao-smollm2"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["finished"]
    assert summary["pairs"] > 0
    assert (run / "report.html").exists()
