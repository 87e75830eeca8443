"""An engine without a model: answers made from the ids, in an order and at a pace that a test chooses."""

from __future__ import annotations

from collections.abc import Callable

from selfalign_jobs.flow import Comparison
from selfalign_jobs.generate.engine import (
    EngineFacts,
    EngineRequest,
    EngineResult,
    KvUse,
    Labels,
    Sample,
)

Answer = Callable[[EngineRequest], tuple[Sample, ...] | Comparison]


class FakeEngine:
    """Finishes, at each step, the open requests that `chosen` picks by their places (all without one)."""

    def __init__(self, answer: Answer, chosen: Callable[[int], list[int]] | None = None, sequences: int = 8) -> None:
        self.facts = EngineFacts(context_tokens=256, max_sequences=sequences, start_seconds=0.0)
        self.requests: list[EngineRequest] = []  # all that it ever got
        self.open: dict[str, EngineRequest] = {}
        self.aborted: list[str] = []
        self._answer = answer
        self._chosen = chosen

    def submit(self, request: EngineRequest) -> None:
        assert request.id not in self.open
        self.requests.append(request)
        self.open[request.id] = request

    def step(self) -> list[EngineResult]:
        places = list(self.open)
        if self._chosen is not None:
            places = [places[place] for place in self._chosen(len(places))]
        return [EngineResult(id, self._answer(self.open.pop(id))) for id in places]

    def kv_use(self) -> KvUse:
        return KvUse(len(self.open) / self.facts.max_sequences, 0)

    def abort(self, id: str) -> None:
        self.open.pop(id, None)
        self.aborted.append(id)


def likes_first(request: EngineRequest) -> tuple[Sample, ...] | Comparison:
    """Samples of one token each, which depends on the prompt and the seed; the first label is always likelier."""
    if isinstance(request.task, Labels):
        return Comparison(-0.5, -1.5)
    first = (sum(request.prompt_ids) + request.task.seed) % 200 + 20
    return tuple(Sample((first + number, 2), "stop") for number in range(request.task.n))
