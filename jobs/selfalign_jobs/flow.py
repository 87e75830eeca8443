"""Flows: what happens to one row, as a pure generator that yields requests and receives their results.

A flow knows no clock, no I/O and no engine; its only randomness comes from `Ask`, seeded by the record. The loop that
runs flows (generate/loop.py) keeps thousands of them open at once and joins all their requests into one running batch,
so a recipe reads top to bottom while the engine never waits at a barrier between roles::

    def sao(row, ask):
        (written,) = yield ask.write("writePrompt", persona=row["persona"])
        first, second = yield ask.write("respond", n=2, prompt=written.text)
        verdict = yield from judge(ask, written.text, first, second)
        return [pair(written, first, second, verdict)]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from selfalign_api.plan import FlowJob, Judge

Row = Mapping[str, Any]  # one row of the prepared table, or one row that a flow makes
SEED_BITS = 63


class Write(NamedTuple):
    """A chat to continue: `n` samples with the sampling of `role`; sample i is drawn with `seed + i`.

    `user` is the whole user turn, already rendered from the role's template; the chat template is applied by the loop.
    `history` are the messages before it. Where that is too long for the context, the first of `shorter` that fits is taken.
    """

    role: str
    user: str
    n: int
    seed: int
    history: tuple[Mapping[str, str], ...] = ()
    shorter: tuple[str, ...] = ()  # the user turn with less in it, in the order in which they are tried


class Compare(NamedTuple):
    """Two candidate continuations of one chat: log p of each at their first differing token (design §3).

    With `answer` the chat goes on after an assistant's turn, as that of a guard does, which is shown what both said.
    """

    role: str
    user: str
    candidates: tuple[str, str]
    answer: str | None = None


class Given(NamedTuple):
    """An answer of somebody else's to a chat: asked for as a completion, which no engine makes."""

    role: str
    user: str
    answer: str
    history: tuple[Mapping[str, str], ...] = ()


class Score(NamedTuple):
    """What a scoring model says of an answer to a prompt, or of a prompt alone; `history` are the messages before it."""

    role: str
    prompt: str
    answer: str | None
    history: tuple[Mapping[str, str], ...] = ()


class Rank(NamedTuple):
    """What a pair ranker says of every ordered pair of answers to a prompt."""

    role: str
    prompt: str
    answers: tuple[str, ...]


class Context(NamedTuple):
    """What stands before a text: plain text; or, behind a `user`'s turn, the beginning of the assistant's."""

    text: str
    user: str | None = None
    history: tuple[Mapping[str, str], ...] = ()


class Continue(NamedTuple):
    """A context to go on with, until one of `stop`: one sample. Of one that is too long the end is taken."""

    role: str
    context: Context
    max_tokens: int
    stop: tuple[str, ...]
    seed: int
    temperature: float = 0.0
    top_p: float = 1.0


class Likelihood(NamedTuple):
    """How likely a text is behind a context, of which the end is taken where both are too long.

    Without a context: of the whole text, in as many windows as it takes, of which one is asked for.
    """

    role: str
    context: Context | None
    text: str
    window: int = 0


class Embed(NamedTuple):
    """The vector of a text."""

    role: str
    text: str


Request = Write | Compare | Given | Score | Rank | Embed | Continue | Likelihood


class Completion(NamedTuple):
    """One sample: its text (the role's prefix stripped) and the ids that the engine saw and made.

    `prompt_ids` is the rendered prompt; `ids` the response's, with the end token unless `finish_reason` is "length".
    """

    text: str
    ids: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    finish_reason: str
    seed: int


class Comparison(NamedTuple):
    """Log-probabilities, in nats, of the two candidates at their first differing token."""

    first: float
    second: float


class Continued(NamedTuple):
    """What a model wrote behind a context; `fills`: the context left no room, and may have been cut."""

    text: str
    tokens: int
    finish_reason: str
    fills: bool


class Likely(NamedTuple):
    """The log-probability of a text, in nats, and whether each of its tokens is the likeliest; in one of so many `windows`."""

    log_p: float
    greedy: bool
    fills: bool = False
    windows: int = 1


class Scores(NamedTuple):
    """The raw outputs of a scoring model, one a label: a reward model has one."""

    logits: tuple[float, ...]

    @property
    def reward(self) -> float:
        """The one output of a reward model."""
        (logit,) = self.logits
        return logit


class Ranking(NamedTuple):
    """`logits[i][j]`: how much better answer i is than answer j, with i shown first; zero where i is j."""

    logits: tuple[tuple[float, ...], ...]

    def gap(self, one: int, other: int) -> float:
        """How much better `one` is than `other`, both orders counted."""
        return self.logits[one][other] - self.logits[other][one]

    @property
    def scores(self) -> tuple[float, ...]:
        """The mean gap of each answer to all of them, itself counted."""
        every = range(len(self.logits))
        return tuple(sum(self.gap(one, other) for other in every) / len(every) for one in every)

    @property
    def ranks(self) -> tuple[int, ...]:
        """1 and the number of answers that are better; equal ones share the better rank."""
        scores = self.scores
        return tuple(1 + sum(other > score for other in scores) for score in scores)


class Vector(NamedTuple):
    """A text as an embedder has it, of length 1."""

    values: tuple[float, ...]


# To Write, Given, Compare, Score, Rank, Embed, Continue, Likelihood.
Reply = list[Completion] | Completion | Comparison | Scores | Ranking | Vector | Continued | Likely
Flow = Callable[[Row, "Ask"], Generator[Any, Any, Sequence[Row]]]  # yields Request or a list of them; returns rows


class Ended(Exception):
    """A record that ends without its rows, and why. `row` is what is known by then: the report's funnel reads it."""

    def __init__(self, reason: str, detail: str = "", row: Row | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.row = row


class SetAside(Ended):
    """Something went wrong with this record (no prefix, too long): counted against `maxSetAsidePercent`."""


class Dropped(Ended):
    """The method wants no row of this record (a tie, identical answers): counted, and never an error."""


def seed_of(*parts: object) -> int:
    """A 63-bit seed: the hash of the run's seed, the record, the role and the ordinal (or of any other parts)."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> (64 - SEED_BITS)


@dataclass(slots=True)
class Ask:
    """Builds the requests of one record: renders role templates, draws seeds.

    Ordinals count the requests of each role, so a flow that asks a role twice gets different seeds, and the same flow
    replayed gets the same ones.
    """

    job: FlowJob
    run_seed: int
    record: str  # the record's id
    render: Callable[[str, Mapping[str, Any]], str]  # (template, variables) -> text
    _ordinals: dict[str, int] = field(default_factory=dict)

    @property
    def judge(self) -> Judge:
        """The judge of this job; a flow without one must not ask."""
        if self.job.judge is None:
            raise LookupError(f"flow {self.job.flow} has no judge in this plan")
        return self.job.judge

    @property
    def options(self) -> Mapping[str, Any]:
        """The flow's own options, from the plan."""
        return self.job.options

    def seed(self, role: str) -> int:
        """The next seed of a role of this record."""
        ordinal = self._ordinals.get(role, 0)
        self._ordinals[role] = ordinal + 1
        return seed_of(self.run_seed, self.record, role, ordinal)

    def write(self, role: str, n: int = 1, *, history: Sequence[Mapping[str, str]] = (), **variables: object) -> Write:
        """Ask `role` for `n` samples; without a template the variable `prompt` is the user's turn as it is."""
        return Write(role, self.turn(role, **variables), n, self.seed(role), tuple(history))

    def given(self, role: str, answer: str, *, history: Sequence[Mapping[str, str]] = (), **variables: object) -> Given:
        """Ask for an answer of somebody else's as if `role` had written it."""
        return Given(role, self.turn(role, **variables), answer, tuple(history))

    def turn(self, role: str, **variables: object) -> str:
        """The user's turn that `role` is asked with."""
        template = self.job.roles[role].template
        return str(variables["prompt"]) if template is None else self.render(template, variables)

    def compare(self, role: str, verdicts: tuple[str, str], **variables: object) -> Compare:
        """Ask which of two candidate verdicts `role` finds likelier; without a template it is shown prompt and `answer`."""
        user = self.turn(role, **variables)
        first, second = (self.render(verdict, variables) for verdict in verdicts)
        answer = variables.get("answer") if self.job.roles[role].template is None else None
        return Compare(role, user, (first, second), None if answer is None else str(answer))

    def score(
        self, prompt: str, answer: str | None, role: str = "judge", *, history: Sequence[Mapping[str, str]] = ()
    ) -> Score:
        """Ask a scoring model what an answer is worth, or a prompt alone."""
        return Score(role, prompt, answer, tuple(history))

    def embed(self, text: str) -> Embed:
        """Ask an embedder for the vector of a text."""
        return Embed("embed", text)

    def rank(self, prompt: str, answers: Sequence[str], role: str = "judge") -> Rank:
        """Ask a pair ranker which of these answers is how much better than which."""
        return Rank(role, prompt, tuple(answers))
