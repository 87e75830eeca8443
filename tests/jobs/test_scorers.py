"""Scoring models on the real vLLM: raw scores, equal to those of transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import TINY
from scorers import classifier, reward_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


@pytest.mark.parametrize("labels", [1, 3])
def test_scores_are_the_head_s_own_as_transformers_has_them(labels: int, tmp_path: Path) -> None:
    """Of a reward model and of one of three labels: neither sigmoid nor softmax, read at the last token."""
    model = reward_model(tmp_path / "model", labels)
    found = as_transformers(model, labels)
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = tokenizer.decode(found["1"]["ids"])
    assert text == tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which is larger, 3 or 9?"}, {"role": "assistant", "content": "3"}], tokenize=False
    )


def test_an_encoder_without_a_chat_template_reads_answers_as_it_was_taught(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model")
    found = as_transformers(model, 3)
    assert found["1"]["ids"] == AutoTokenizer.from_pretrained(model)("3")["input_ids"]


def test_the_tiny_reward_model_which_our_objective_made_scores_as_transformers_has_it() -> None:
    as_transformers(TINY.parent / "reward-model", 1)


def as_transformers(model: Path, labels: int) -> dict[str, Any]:
    """What our engine says of each conversation, once transformers has said the same of the same ids."""
    command = [sys.executable, str(Path(__file__).parent / "score_probe.py"), str(model)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("aside").startswith("too long")
    theirs = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    for row in found.values():
        with torch.inference_mode():
            wanted = theirs(torch.tensor([row["ids"]])).logits[0].tolist()
        assert row["logits"] == pytest.approx(wanted, abs=1e-4)
        assert len(wanted) == labels
    assert max(abs(logit) for row in found.values() for logit in row["logits"]) > 1  # no probabilities
    return found
