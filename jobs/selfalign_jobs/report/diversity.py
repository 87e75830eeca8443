"""How much the prompts that a run wrote differ from one another: the share of distinct ones, and Self-BLEU."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from selfalign_jobs.recipes.answers import normalised, written_prompts
from selfalign_jobs.recipes.near_duplicates import words_of
from selfalign_jobs.report.evidence import Iteration, Made

SAMPLED = 500  # prompts that are compared with one another
ORDERS = (2, 3, 4, 5)
_NONE = 0.1  # what an order without a match counts as (Chen and Cherry 2014, method 1)


@dataclass(frozen=True, slots=True)
class Diversity:
    """Of the written prompts of a table."""

    prompts: int
    distinct: float  # share of them that no earlier one equals, up to whitespace
    sampled: int
    self_bleu: dict[int, float]  # by the longest n-gram; empty for fewer than two prompts

    @property
    def mean(self) -> float | None:
        """Self-BLEU over its orders, as ReverseGen has it: 1 for one text over and over, near 0 for texts that share nothing."""
        return sum(self.self_bleu.values()) / len(self.self_bleu) if self.self_bleu else None


def diversities(iteration: Iteration, seed: int) -> Iterator[tuple[Made, Diversity]]:
    """Of each table of an iteration into which prompts were written, not those that took them over from another."""
    written = {made.ref: written_prompts(made.table) for made in iteration.made if made.table is not None}
    for made in iteration.made:
        prompts = written.get(made.ref)
        if prompts and not any(written.get(ref) for ref in made.job.rows.inputs if ref.ref == "artifact"):
            yield made, diversity(prompts, seed)


def diversity(prompts: Sequence[str], seed: int) -> Diversity:
    """The figures of prompts; Self-BLEU of a sample that the seed draws."""
    size = min(SAMPLED, len(prompts))
    drawn = np.random.default_rng(seed % 2**32).choice(len(prompts), size, replace=False)
    sample = [words_of(prompts[number]) for number in np.sort(drawn)]
    distinct = len({normalised(prompt) for prompt in prompts}) / len(prompts)
    return Diversity(len(prompts), distinct, size, self_bleu(sample) if size > 1 else {})


def self_bleu(texts: Sequence[Sequence[str]]) -> dict[int, float]:
    """Mean BLEU of each text with all others as references (Zhu et al. 2018), for each order.

    BLEU-n is the geometric mean of the clipped precisions of 1- to n-grams, times the brevity penalty.
    """
    precisions = [_precisions(texts, size) for size in range(1, max(ORDERS) + 1)]
    penalties = _brevity(texts)
    return {
        order: float(np.mean([
            penalty * math.exp(sum(math.log(each[number]) for each in precisions[:order]) / order)
            for number, penalty in enumerate(penalties)
        ]))
        for order in ORDERS
    }  # fmt: skip


def _precisions(texts: Sequence[Sequence[str]], size: int) -> list[float]:
    """Of each text the share of its n-grams that another has as often; of those too short for any, as of no match."""
    grams = [Counter(zip(*(text[at:] for at in range(size)), strict=False)) for text in texts]
    most: defaultdict[tuple[str, ...], tuple[int, int]] = defaultdict(
        lambda: (0, 0)
    )  # the two highest counts of a text
    for counts in grams:
        for gram, number in counts.items():
            high, second = most[gram]
            most[gram] = (number, high) if number > high else (high, max(second, number))
    found = []
    for counts in grams:
        matched = sum(min(number, _of_others(number, most[gram])) for gram, number in counts.items())
        found.append((matched or _NONE) / max(1, counts.total()))
    return found


def _of_others(own: int, most: tuple[int, int]) -> int:
    """The highest count of an n-gram in another text, of the two highest of all."""
    high, second = most
    return second if own == high else high


def _brevity(texts: Sequence[Sequence[str]]) -> list[float]:
    """The brevity penalty of each text against the other whose length is nearest, the shorter of two."""
    lengths = Counter(len(text) for text in texts)
    found = []
    for text in texts:
        own = len(text)
        others = lengths - Counter([own])
        nearest = min(others, key=lambda length: (abs(length - own), length))
        found.append(1.0 if own > nearest else math.exp(1 - nearest / max(1, own)))
    return found
