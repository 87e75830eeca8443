"""A pair ranker as an engine: DeBERTa and a head over the vectors of prompt and answer, in transformers (PairRM's form).

vLLM has no DeBERTa. Sequences are padded on the right, which changes none of them, and cut each by its own row: a score does
not depend on what it is computed with.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import DebertaV2Config, DebertaV2Model

from selfalign_jobs.flow import Ranking
from selfalign_jobs.generate.engine import EngineFacts, EngineRequest, EngineResult, KvUse, Pairs
from selfalign_jobs.generate.engine_setup import EngineSpec
from selfalign_jobs.generate.pair_ranker import ALL_TOKENS, RankerConfig

BATCH_TOKENS = {"CPU": 4096, "GPU": 65536}  # of a forward pass, padding counted
REQUESTS = 64  # that wait for one


class PairRanker(torch.nn.Module):
    """How much better the first answer is than the second: the difference of what the head says of both."""

    def __init__(self, config: DebertaV2Config, tasks: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.pretrained_model = DebertaV2Model(config)
        self.head_layer = torch.nn.Sequential(
            torch.nn.Dropout(0.0),
            torch.nn.Linear(2 * width, width),
            torch.nn.Tanh(),
            torch.nn.Dropout(0.0),
            torch.nn.Linear(width, tasks),
        )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, prefixes: tuple[int, int, int]) -> torch.Tensor:
        """A logit a row; above zero, the first answer is better."""
        hidden = self.pretrained_model(ids, attention_mask=mask).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        prompt, first, second = (hidden[rows, (ids == prefix).int().argmax(1)].float() for prefix in prefixes)
        scores = [self.head_layer(torch.cat([prompt, answer], dim=1)) for answer in (first, second)]
        return (scores[0] - scores[1]).mean(1)


def load_ranker(model: Path, device: str) -> PairRanker:
    """The ranker of a folder, ready to rank: bfloat16 on a GPU, its head in float32."""
    config = DebertaV2Config.from_pretrained(model)
    ranker = PairRanker(config, RankerConfig.of(model).tasks)
    weights = load_file(str(model / "model.safetensors"))
    weights.pop("pretrained_model.embeddings.position_ids", None)  # of older saves
    ranker.load_state_dict(weights)
    if device == "GPU":
        ranker.pretrained_model.to(torch.bfloat16)
        ranker.to("cuda")
    ranker.eval()
    return ranker


class RankerEngine:
    """A pair ranker in this process (`generate.engine.Engine`)."""

    def __init__(self, spec: EngineSpec, model: Path) -> None:
        """Load the model from its folder."""
        started = time.monotonic()
        self._ranker = load_ranker(model, spec.means.device)
        self._config = RankerConfig.of(model)
        self._pad = int(self._ranker.pretrained_model.config.pad_token_id or 0)
        self._most = BATCH_TOKENS[spec.means.device]
        self._open: OrderedDict[str, EngineRequest] = OrderedDict()
        self.facts = EngineFacts(
            context_tokens=ALL_TOKENS,
            max_sequences=REQUESTS,
            start_seconds=time.monotonic() - started,
            versions={name: version(name) for name in ("torch", "transformers")},
        )

    def submit(self, request: EngineRequest) -> None:
        """Take a request."""
        self._open[request.id] = request

    def step(self) -> list[EngineResult]:
        """Rank the answers of as many requests as a forward pass has room for."""
        taken: list[EngineRequest] = []
        pairs: list[list[int]] = []
        while self._open:
            request = next(iter(self._open.values()))
            longest = max(map(len, pairs := [*pairs, *_sequences(request)]))
            if taken and longest * len(pairs) > self._most:
                pairs = pairs[: -len(_sequences(request))]
                break
            taken.append(self._open.pop(request.id))
        logits = iter(self._logits(pairs))
        return [EngineResult(request.id, _ranking(request, logits)) for request in taken]

    def kv_use(self) -> KvUse:
        """It keeps nothing."""
        return KvUse(0.0, 0)

    def abort(self, id: str) -> None:
        """Forget a request."""
        self._open.pop(id, None)

    def _logits(self, pairs: list[list[int]]) -> list[float]:
        longest = max(map(len, pairs), default=0)
        device = next(self._ranker.parameters()).device
        ids = torch.tensor([pair + [self._pad] * (longest - len(pair)) for pair in pairs], device=device)
        mask = torch.tensor([[1] * len(pair) + [0] * (longest - len(pair)) for pair in pairs], device=device)
        with torch.inference_mode():
            logits: list[float] = self._ranker(ids, mask, self._config.prefixes).double().tolist()
        return logits


def _sequences(request: EngineRequest) -> list[list[int]]:
    assert isinstance(request.task, Pairs)
    sequences, start = [], 0
    for length in request.task.lengths:
        sequences.append(request.prompt_ids[start : start + length])
        start += length
    return sequences


def _ranking(request: EngineRequest, logits: Any) -> Ranking:
    assert isinstance(request.task, Pairs)
    every = range(request.task.answers)
    return Ranking(tuple(tuple(0.0 if i == j else next(logits) for j in every) for i in every))
