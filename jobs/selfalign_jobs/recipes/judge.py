"""Pairwise verdicts: which of two answers is better, by the model's own judgement (SAO, arXiv 2510.06652, section 3).

The paper judges once, in one order, and parses a line; it does not say what happens to ties and to position bias. Our
default asks in both orders and compares log-probabilities of the two candidate verdicts, so that a preference for a
position cancels out of the mean and nothing has to be parsed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from selfalign_api.plan import Judge
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import Ask, Comparison, Completion, Ranking, Reply, Request, Scores

Outcome = Literal["first", "second", "tie", "unparsed"]

JUDGE_VARIABLES = frozenset({"prompt", "first", "second", "criteria"})

JUDGE = """\
Two answers to the same prompt are to be ranked. Weigh {{ criteria | join(", ") }}. The order in which they are shown \
says nothing about their worth.

[Prompt]
{{ prompt }}

[Answer A]
{{ first }}

[Answer B]
{{ second }}

Write exactly one line, "ranking: A > B" if answer A is better, or "ranking: B > A" if answer B is better.
"""


def judge_role() -> dict[str, Json]:
    """The judge's voice where a run leaves it out; like the next, made anew for whoever changes it."""
    return {"name": "judge", "template": JUDGE, "temperature": 0, "maxTokens": 64, "reasoning": "Strip"}  # ours


def judge_values() -> dict[str, Json]:
    """How a run judges that does not say."""
    return {
        "method": "logprobs",  # ours; the paper's own is `paper`
        "verdicts": ["ranking: A > B", "ranking: B > A"],
        "criteria": ["relevance and specificity", "accuracy", "completeness", "clarity"],
        "tieMargin": 0,
    }


@dataclass(frozen=True, slots=True)
class Verdict:
    """`forward` is the verdict with the first answer shown first, `backward` with the second shown first.

    Both are about the answers, not the positions. Margins are log p(first better) - log p(second better), in nats; None
    where the method has none. `p_first` is the mean probability, over the orders asked, that the first is better.
    """

    forward: Outcome
    backward: Outcome | None
    p_first: float | None
    margin_forward: float | None = None
    margin_backward: float | None = None
    tie_margin: float = 0.0
    scores: tuple[float, float] | None = None  # of a scoring model, whose difference is the verdict
    min_score_gap: float = 0.0

    @property
    def better(self) -> Literal["first", "second"] | None:
        """The better answer; None for a tie, an unparsed verdict, or orders that disagree on a parsed verdict."""
        if self.p_first is None or abs(self.p_first - 0.5) <= self.tie_margin or self.is_narrow:
            return None
        return "first" if self.p_first > 0.5 else "second"

    @property
    def is_narrow(self) -> bool:
        """Whether scores are nearer to one another than they must be."""
        return self.scores is not None and abs(self.scores[0] - self.scores[1]) < self.min_score_gap

    @property
    def reason(self) -> str:
        """Why there is no better answer."""
        if self.is_narrow:
            return "score gap below minScoreGap"
        if "unparsed" in (self.forward, self.backward):
            return "unparsed verdict"
        if self.margin_forward is None and self.backward is not None and self.forward != self.backward:
            return "inconsistent verdicts"
        return "tie"

    @property
    def margin(self) -> float | None:
        """Mean margin of the orders, in nats, or the gap of the scores; positive when the first is better."""
        if self.scores is not None:
            return self.scores[0] - self.scores[1]
        margins = [m for m in (self.margin_forward, self.margin_backward) if m is not None]
        return sum(margins) / len(margins) if margins else None

    @property
    def columns(self) -> dict[str, Any]:
        """The verdict's columns of a row (recipes/rows.py, VERDICT_FIELDS)."""
        return {
            "p_first": self.p_first,
            "margin": None if self.margin is None else abs(self.margin),
            "verdict_forward": self.forward,
            "verdict_backward": self.backward,
            "margin_forward": self.margin_forward,
            "margin_backward": self.margin_backward,
        }


Judging = Generator[Request | list[Request], Any, Verdict]


def judge(ask: Ask, prompt: str, first: str, second: str, description: str | None = None) -> Judging:
    """Compare two answers to a prompt by the plan's method; `description` is of the person who judges, where one does."""
    method = ask.judge.method
    if method == "random":
        return _control(ask)
    if method == "score":
        return _by_scores(ask, prompt, first, second)
    said = {"prompt": prompt, "criteria": ask.judge.criteria} | (
        {} if description is None else {"description": description}
    )
    if method == "logprobs":
        return _by_log_probabilities(ask, said, first, second)
    return _by_parsing(ask, said, first, second, both_orders=method == "generate")


def _control(ask: Ask) -> Judging:
    """The paper's control: a verdict that knows nothing (Table 4 there: training on it does harm)."""
    first_better = ask.seed("judge") % 2 == 0
    yield from ()
    return Verdict("first" if first_better else "second", None, 1.0 if first_better else 0.0)


def _by_log_probabilities(ask: Ask, said: Mapping[str, Any], first: str, second: str) -> Judging:
    verdicts = ask.judge.verdicts
    forward, backward = yield [
        ask.compare("judge", verdicts, first=first, second=second, **said),
        ask.compare("judge", verdicts, first=second, second=first, **said),
    ]
    assert isinstance(forward, Comparison) and isinstance(backward, Comparison)
    # In the second the first answer stands second.
    return by_margins(ask.judge, forward.first - forward.second, backward.second - backward.first)


def _by_scores(ask: Ask, prompt: str, first: str, second: str) -> Judging:
    """By a reward model's scores, or by both orders of a pair ranker."""
    if ask.judge.scorer == "PairRanker":
        ranking = yield ask.rank(prompt, (first, second))
        assert isinstance(ranking, Ranking)
        return by_scores(ask.judge, ranking.logits[0][1], ranking.logits[1][0])
    replies = yield [ask.score(prompt, answer) for answer in (first, second)]
    rewards = [reply.reward for reply in replies if isinstance(reply, Scores)]
    return by_scores(ask.judge, rewards[0], rewards[1])


def _by_parsing(ask: Ask, said: Mapping[str, Any], first: str, second: str, *, both_orders: bool) -> Judging:
    orders = [(first, second), (second, first)] if both_orders else [(first, second)]
    replies: list[Reply] = yield [ask.write("judge", first=a, second=b, **said) for a, b in orders]
    read: list[Outcome] = []
    for (a, b), reply in zip(orders, replies, strict=True):
        (completion,) = reply  # type: ignore[misc]  # a Write is answered by completions
        assert isinstance(completion, Completion)
        read.append(read_verdict(ask, completion.text, {**said, "first": a, "second": b}))
    return by_votes(read[0], OTHER_ORDER[read[1]] if both_orders else None)


# --- from what was said to the verdict ------------------------------------------------------------------------------------

OTHER_ORDER: dict[Outcome, Outcome] = {"first": "second", "second": "first", "tie": "tie", "unparsed": "unparsed"}


def by_margins(judge: Judge, forward: float, backward: float) -> Verdict:
    """By the margins of both orders, nats; each is positive when the first answer is better, wherever it is shown."""
    p_first = (_sigmoid(forward) + _sigmoid(backward)) / 2
    return Verdict(_sign(forward), _sign(backward), p_first, forward, backward, judge.tie_margin)


def by_scores(judge: Judge, first: float, second: float) -> Verdict:
    """By the scores of both answers, which are the same in any order."""
    gap = first - second
    return Verdict(
        _sign(gap), _sign(gap), _sigmoid(gap), scores=(first, second), min_score_gap=judge.min_score_gap or 0.0
    )


def by_votes(forward: Outcome, backward: Outcome | None) -> Verdict:
    """By what was read in each order that was asked."""
    votes = [{"first": 1.0, "second": 0.0}.get(vote) for vote in (forward, backward) if vote is not None]
    agree = None not in votes and len(set(votes)) == 1
    return Verdict(forward, backward, votes[0] if agree else (None if None in votes else 0.5))


def read_verdict(ask: Ask, text: str, variables: Mapping[str, Any]) -> Outcome:
    """What a judge that was shown these two answers in this order has written."""
    candidates = [ask.render(verdict, variables) for verdict in ask.judge.verdicts]
    return parse_verdict(text, candidates[0], candidates[1])


def parse_verdict(text: str, first: str, second: str) -> Outcome:
    """Which candidate verdict stands last in the text (case and white space folded); "unparsed" without either."""
    folded = _fold(text)
    at_first, at_second = folded.rfind(_fold(first)), folded.rfind(_fold(second))
    if at_first == at_second:
        return "unparsed"
    return "first" if at_first > at_second else "second"


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def _sign(margin: float) -> Outcome:
    if margin == 0:
        return "tie"
    return "first" if margin > 0 else "second"


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
