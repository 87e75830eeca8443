"""Which of several answers is best, by whatever judges: every ordered pair of them, as LLM-Blender ranks (arXiv 2306.02561).

A pair ranker says it of itself. Of the scores of other models, of a judge's log-probabilities and of its written verdicts
the same table is made: how much better one answer is than another, with the one shown first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import permutations
from typing import Any

from selfalign_api.plan import Judge
from selfalign_jobs.flow import Ask, Comparison, Completion, Ranking, Reply, Request, Scores
from selfalign_jobs.recipes.judge import OTHER_ORDER, Outcome, Verdict, by_margins, by_scores, by_votes, read_verdict

Ranked = Generator[Request | list[Request], Any, Ranking]
VOTES: dict[Outcome, float] = {"first": 1.0, "second": -1.0}
OUTCOMES: dict[float, Outcome] = {1.0: "first", -1.0: "second", 0.0: "unparsed"}


def rank(ask: Ask, prompt: str, answers: Sequence[str]) -> Ranked:
    """How much better each answer is than each other, by the plan's method; equal texts are asked about once."""
    texts = tuple(dict.fromkeys(answers))
    found = Ranking(((0.0,),))
    if len(texts) > 1:
        found = yield from METHODS[ask.judge.method](ask, prompt, texts)
    places = [texts.index(answer) for answer in answers]
    return Ranking(tuple(tuple(found.logits[i][j] for j in places) for i in places))


def verdict(judge: Judge, ranking: Ranking, first: int, second: int) -> Verdict:
    """What a ranking says of two of its answers."""
    ahead, behind = ranking.logits[first][second], ranking.logits[second][first]
    if judge.method == "score":
        return by_scores(judge, ahead, behind)
    if judge.method == "logprobs":
        return by_margins(judge, ahead, -behind)
    return by_votes(OUTCOMES[ahead], OTHER_ORDER[OUTCOMES[behind]])


def _by_scores(ask: Ask, prompt: str, texts: tuple[str, ...]) -> Ranked:
    """By a pair ranker; or by a model that scores an answer whatever it is compared with."""
    if ask.judge.scorer == "PairRanker":
        ranking = yield ask.rank(prompt, texts)
        assert isinstance(ranking, Ranking)
        return ranking
    replies = yield [ask.score(prompt, text) for text in texts]
    rewards = [reply.reward for reply in replies if isinstance(reply, Scores)]
    return _ranking(len(texts), lambda one, _: rewards[one])


def _by_log_probabilities(ask: Ask, prompt: str, texts: tuple[str, ...]) -> Ranked:
    """By the log-odds that a judge gives the answer that it is shown first, of every ordered pair."""
    replies = yield [
        ask.compare("judge", ask.judge.verdicts, prompt=prompt, first=first, second=second, criteria=ask.judge.criteria)
        for first, second in permutations(texts, 2)
    ]
    margins = [reply.first - reply.second for reply in replies if isinstance(reply, Comparison)]
    said = dict(zip(permutations(range(len(texts)), 2), margins, strict=True))
    return _ranking(len(texts), lambda one, other: said[one, other])


def _by_votes(ask: Ask, prompt: str, texts: tuple[str, ...]) -> Ranked:
    """By the verdict that a judge writes of every ordered pair; one that cannot be read is a vote for neither."""
    replies: list[Reply] = yield [
        ask.write("judge", prompt=prompt, first=first, second=second, criteria=ask.judge.criteria)
        for first, second in permutations(texts, 2)
    ]
    said: dict[tuple[int, int], float] = {}
    for (one, other), reply in zip(permutations(range(len(texts)), 2), replies, strict=True):
        (completion,) = reply  # type: ignore[misc]  # a Write is answered by completions
        assert isinstance(completion, Completion)
        shown = {"prompt": prompt, "first": texts[one], "second": texts[other], "criteria": ask.judge.criteria}
        read = read_verdict(ask, completion.text, shown)
        said[one, other] = VOTES.get(read, 0.0)
    return _ranking(len(texts), lambda one, other: said[one, other])


def _control(ask: Ask, prompt: str, texts: tuple[str, ...]) -> Ranked:  # noqa: ARG001
    """Any order, as likely as any other: what knows nothing must teach nothing."""
    drawn = [ask.seed("judge") for _ in texts]
    yield from ()
    return _ranking(len(texts), lambda one, other: 1.0 if drawn[one] < drawn[other] else -1.0)


METHODS: dict[str, Callable[[Ask, str, tuple[str, ...]], Ranked]] = {
    "score": _by_scores,
    "logprobs": _by_log_probabilities,
    "generate": _by_votes,
    "random": _control,
}


def _ranking(answers: int, logit: Callable[[int, int], float]) -> Ranking:
    every = range(answers)
    return Ranking(tuple(tuple(0.0 if one == other else logit(one, other) for other in every) for one in every))
