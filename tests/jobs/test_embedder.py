"""Vectors of a real sentence encoder on the real vLLM: those of transformers, and what they tell apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from minilm import encoder
from transformers import AutoModel

from selfalign_jobs.recipes.near_duplicates import near_duplicates

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

CONTEXT = 64
TEXTS = [
    "How do I bake bread?",
    "Prove that there are infinitely many primes.",
    "How do I bake a bread?",
    "dog " * 100,
    "Show that there are infinitely many prime numbers.",
]


def test_vectors_are_those_of_transformers_and_find_the_same_question_in_other_words() -> None:
    model = encoder()
    command = [sys.executable, str(Path(__file__).parent / "embed_probe.py"), str(model), str(CONTEXT), *TEXTS]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    theirs = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    for each in found:
        with torch.inference_mode():
            mean = theirs(torch.tensor([each["ids"]])).last_hidden_state[0].mean(0)
        assert each["vector"] == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)
    assert len(found[3]["ids"]) == CONTEXT  # of a long text its beginning
    vectors = np.array([each["vector"] for each in found], np.float32)
    like = near_duplicates(TEXTS, {"method": "Embedding", "threshold": 0.9}, vectors)
    assert like.tolist() == [-1, -1, 0, -1, 1]
