"""The engine as it runs on a GPU in what counts: a bfloat16 model whose verdicts are float32's, and a KV cache that is short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import MODEL
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign_jobs.generate.engine import EngineFacts
from selfalign_jobs.generate.in_flight import max_open_flows

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", name="probed")
def _probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bfloat16")
    AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
    command = [sys.executable, str(Path(__file__).parent / "engine_probe.py"), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_margins_of_a_bfloat16_model_are_those_of_a_float32_head(probed: dict[str, Any]) -> None:
    assert probed["dtype"] == "torch.bfloat16"
    for margin, exact in probed["margins"]:
        assert margin == pytest.approx(exact, abs=1e-3)


def test_it_says_how_much_its_kv_cache_holds(probed: dict[str, Any]) -> None:
    assert probed["kv_tokens"] in range(39 * 32, 40 * 32 + 1)  # one block is vLLM's own
    assert probed["max_sequences"] == 24


def test_a_short_kv_cache_is_used_up_and_its_preemptions_are_counted(probed: dict[str, Any]) -> None:
    share, preemptions = probed["use"]
    assert probed["most"] > 0.9
    assert preemptions > 0
    assert share < 0.1


def test_flows_are_as_many_as_the_kv_cache_bears(probed: dict[str, Any]) -> None:
    facts = EngineFacts(256, probed["max_sequences"], 0.0, probed["kv_tokens"])
    assert max_open_flows(facts) * facts.context_tokens / 6 <= probed["kv_tokens"]
