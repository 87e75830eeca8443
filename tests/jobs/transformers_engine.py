"""Transformers as an engine, for models so small that to start vLLM takes longer than all that they write."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from selfalign_jobs.flow import Scores
from selfalign_jobs.generate.engine import (
    EngineFacts,
    EngineRequest,
    EngineResult,
    Head,
    KvUse,
    Sample,
    Sampling,
)
from selfalign_jobs.generate.engine_setup import EngineSpec

SEQUENCES = 512


class TransformersEngine:
    """A model in this process (`generate.engine.Engine`); each step answers all that is open.

    A sample is drawn by its own seed: it does not depend on what is answered beside it. Stop texts are not looked for: the
    tiny models write none.
    """

    def __init__(self, spec: EngineSpec, model: Path) -> None:
        """Load the model from its folder, in float32."""
        started = time.monotonic()
        kind: Any = AutoModelForCausalLM if spec.pools is None else AutoModelForSequenceClassification
        self._model = kind.from_pretrained(model, dtype=torch.float32).eval()
        self._open: dict[str, EngineRequest] = {}
        self.facts = EngineFacts(
            context_tokens=int(self._model.config.max_position_embeddings),
            max_sequences=SEQUENCES,
            start_seconds=time.monotonic() - started,
            versions={name: version(name) for name in ("torch", "transformers")},
        )

    def submit(self, request: EngineRequest) -> None:
        """Take a request."""
        self._open[request.id] = request

    def step(self) -> list[EngineResult]:
        """Answer all open requests."""
        requests = list(self._open.values())
        self._open.clear()
        with torch.inference_mode():
            return [*self._scored(requests), *self._written(requests)]

    def kv_use(self) -> KvUse:
        """It keeps nothing between steps."""
        return KvUse(0.0, 0)

    def abort(self, id: str) -> None:
        """Forget a request."""
        self._open.pop(id, None)

    def _scored(self, requests: list[EngineRequest]) -> Iterator[EngineResult]:
        """What the head says at the last token; of one length at a time, as a head looks for that token itself."""
        by_length: dict[int, list[EngineRequest]] = defaultdict(list)
        for request in requests:
            if isinstance(request.task, Head):
                by_length[len(request.prompt_ids)].append(request)
        for alike in by_length.values():
            logits = self._model(torch.tensor([request.prompt_ids for request in alike])).logits.tolist()
            for request, each in zip(alike, logits, strict=True):
                yield EngineResult(request.id, Scores(tuple(each)))

    def _written(self, requests: list[EngineRequest]) -> Iterator[EngineResult]:
        """The samples of those that ask for some."""
        asked = [(request, task) for request in requests if isinstance(task := request.task, Sampling)]
        prompts = [(request.prompt_ids, task, number) for request, task in asked for number in range(task.n)]
        assert all((task.top_p, task.top_k) == (1, 0) for _, task, _ in prompts)
        samples = iter(self._samples(prompts)) if prompts else iter(())
        for request, task in asked:
            yield EngineResult(request.id, tuple(next(samples) for _ in range(task.n)))

    def _samples(self, prompts: list[tuple[list[int], Sampling, int]]) -> Iterator[Sample]:
        """A sample of each prompt: the one of that number."""
        longest, end = max(len(ids) for ids, _, _ in prompts), self._model.generation_config.eos_token_id
        ids = torch.tensor([[end] * (longest - len(ids)) + ids for ids, _, _ in prompts])
        seen = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _, _ in prompts])
        most = max(task.max_tokens for _, task, _ in prompts)
        drawn = np.stack([np.random.default_rng(task.seed + number).random(most) for _, task, number in prompts])
        temperatures = torch.tensor([task.temperature for _, task, _ in prompts])
        for said, (_, task, _) in zip(
            self._tokens(ids, seen, temperatures, torch.from_numpy(drawn)).tolist(), prompts, strict=True
        ):
            ended = end in (within := said[: task.max_tokens])
            yield Sample(tuple(within[: within.index(end) + 1] if ended else within), "stop" if ended else "length")

    def _tokens(
        self, ids: torch.Tensor, seen: torch.Tensor, temperatures: torch.Tensor, drawn: torch.Tensor
    ) -> torch.Tensor:
        """The tokens after prompts that are padded on the left, until each has ended, by numbers drawn for each."""
        greedy, places = temperatures == 0, seen.cumsum(-1) - 1
        end, cache, told = self._model.generation_config.eos_token_id, None, []
        for place in range(drawn.shape[1]):
            out = self._model(ids, attention_mask=seen, position_ids=places.clamp(min=0), past_key_values=cache)
            cache, logits = out.past_key_values, out.logits[:, -1].double()
            sums = torch.softmax(logits / temperatures.where(~greedy, 1)[:, None], -1).cumsum(-1)
            sampled = torch.searchsorted(sums, drawn[:, place, None] * sums[:, -1:])[:, 0]
            ids = torch.where(greedy, logits.argmax(-1), sampled)[:, None]
            told.append(ids)
            if (torch.cat(told, 1) == end).any(1).all():
                break
            seen, places = torch.cat([seen, torch.ones_like(ids)], 1), places[:, -1:] + 1
        return torch.cat(told, 1)
