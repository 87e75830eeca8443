"""The engine as the loop sees it: requests in, finished requests out. A fake one drives the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from selfalign_jobs.flow import Comparison, Likely, Ranking, Scores, Vector


class Sampling(NamedTuple):
    """How samples are drawn; sample i of `n` with `seed + i`. `top_k` 0 means all tokens."""

    n: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()  # texts after which a sample ends, kept in it


class Labels(NamedTuple):
    """Two tokens whose log-probabilities as the next token are asked: over the whole vocabulary, before any temperature."""

    first: int
    second: int


class Tail(NamedTuple):
    """The last tokens of the prompt: the sum of their log-probabilities, and whether each is the likeliest."""

    tokens: int


class Head(NamedTuple):
    """The raw outputs of a scoring model's head at the last token."""


class Pairs(NamedTuple):
    """The raw output of a pair ranker for each ordered pair of `answers`; the prompt's ids are the pairs', one after another."""

    answers: int
    lengths: tuple[int, ...]  # of (0, 1), (0, 2) … (1, 0) …


class Whole(NamedTuple):
    """The vector of the whole text."""


class Sample(NamedTuple):
    """One sample: its ids, the end token included unless `finish_reason` is "length"."""

    ids: tuple[int, ...]
    finish_reason: str


Task = Sampling | Labels | Tail | Head | Pairs | Whole
Answer = tuple[Sample, ...] | Comparison | Likely | Scores | Ranking | Vector


class EngineRequest(NamedTuple):
    """A prompt, as token ids, and what is asked of it."""

    id: str
    prompt_ids: list[int]
    task: Task


class EngineResult(NamedTuple):
    """The answer to the request of that id."""

    id: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the loop and the manifest must know of an engine that has started.

    `context_tokens` bounds prompt and answer together; `max_sequences` is how many requests it runs at once, where its
    KV cache, which holds `kv_tokens`, has room for them. `queues_steps`: while one step runs on its card the next is
    queued, and the host works beside both.
    """

    context_tokens: int
    max_sequences: int
    start_seconds: float
    kv_tokens: int | None = None  # None: all that its sequences can need
    queues_steps: bool = False
    versions: dict[str, str] = field(default_factory=dict)


class KvUse(NamedTuple):
    """The share of an engine's KV cache in use, and how often a sequence has lost its place there, to be computed again."""

    share: float
    preemptions: int


class Engine(Protocol):
    """A running model. Not thread-safe; whoever holds it calls `step` while requests are open."""

    @property
    def facts(self) -> EngineFacts:
        """What it offers."""

    def submit(self, request: EngineRequest) -> None:
        """Take a request; it joins the running batch at the next step."""

    def step(self) -> list[EngineResult]:
        """Advance all open requests by one forward pass; returns those that finished."""

    def kv_use(self) -> KvUse:
        """How full its KV cache is."""

    def abort(self, id: str) -> None:
        """Forget a request; it gives no result. One that has finished already is ignored."""
