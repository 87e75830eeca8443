"""How a reward model orders answers that it has not seen, beside the order that their responders are known to have.

Provenance is bound up with length: so its accuracy is told of pairs of about equal length too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import pyarrow as pa

from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.base import Remark

MATCHED = 0.1  # lengths that differ by no more than this share of the longer one
CHANCE = 1.645  # standard errors above a half, below which an accuracy says nothing: one-sided 5 %


@dataclass
class Share:
    """How many of so many."""

    right: int = 0
    pairs: int = 0

    @property
    def value(self) -> float:
        """The share; 0 of none."""
        return self.right / self.pairs if self.pairs else 0.0

    def add(self, right: bool) -> None:
        """Count one."""
        self.right, self.pairs = self.right + right, self.pairs + 1


@dataclass
class Ordered:
    """Figures of validation answers: of each responder, of each kind of pair, of all."""

    names: list[str]
    scores: list[float] = field(default_factory=list)  # the mean, a responder each
    characters: list[float] = field(default_factory=list)  # of an answer, on average
    kinds: dict[tuple[int, int], Share] = field(default_factory=dict)
    all: Share = field(default_factory=Share)
    matched: Share = field(default_factory=Share)  # of about equal length


def ordered(table: pa.Table) -> Ordered | None:
    """The figures of a table of scored answers; None without any."""
    rows = table.select(["responders", "responses", "scores"]).to_pylist()
    if not rows:
        return None
    found = Ordered(rows[0]["responders"])
    for place in range(len(found.names)):
        given = [(row["scores"][place], len(row["responses"][place])) for row in rows if row["responses"][place]]
        found.scores.append(sum(score for score, _ in given) / len(given) if given else math.nan)
        found.characters.append(sum(length for _, length in given) / len(given) if given else math.nan)
    for kind in combinations(range(len(found.names)), 2):
        found.kinds[kind] = Share()
        for row in rows:
            (better, worse), (above, below) = ([row[name][place] for place in kind] for name in ("responses", "scores"))
            if better is None or worse is None or normalised(better) == normalised(worse):
                continue
            lengths = sorted((len(better), len(worse)))
            counted = [found.kinds[kind], found.all]
            counted += [found.matched] if lengths[1] - lengths[0] <= MATCHED * lengths[1] else []
            for share in counted:
                share.add(above > below)
    return found


def order_remarks(table: str, found: Ordered | None) -> Iterator[Remark]:
    """The figures, a sentence each."""
    if found is None:
        return
    words = f"of {found.all.pairs:,} pairs of answers that it has not seen are scored in the responders' order."
    yield Remark(table, "rewardAccuracy", found.all.value, words, share=True)
    words = f"of the {found.matched.pairs:,} among them whose lengths differ by a tenth at the most."
    yield Remark(table, "rewardAccuracyLengthMatched", found.matched.value, words, share=True)
    for (better, worse), share in found.kinds.items():
        words = f"of {share.pairs:,} pairs of {found.names[better]} above {found.names[worse]}."
        yield Remark(table, f"rewardAccuracy{better + 1}Over{worse + 1}", share.value, words, share=True)
    for place, (name, score) in enumerate(zip(found.names, found.scores, strict=True)):
        words = f"is the mean score of {name}, whose answers have {found.characters[place]:.1f} characters on average."
        yield Remark(table, f"responderScore{place + 1}", score, words)


def order_notes(table: pa.Table) -> Iterator[str]:
    """Responders whose mean scores do not fall along their list, and kinds of pairs that are ordered no better than by chance."""
    found = ordered(table)
    if found is None:
        return
    for place, (before, after) in enumerate(zip(found.scores, found.scores[1:], strict=False)):
        if after > before:
            names = found.names[place : place + 2]
            yield (
                f"The reward model scores {names[1]} ({after:.2f}) above {names[0]} ({before:.2f}), which stands before it: "
                "the order of almost.responders is the label, and may be wrong."
            )
    for (better, worse), share in found.kinds.items():
        error = math.sqrt(0.25 / max(1, share.pairs))
        if share.pairs and share.value < 0.5 + CHANCE * error:
            yield (
                f"The reward model puts {found.names[better]} above {found.names[worse]} in {share.value:.0%} of "
                f"{share.pairs:,} pairs: hardly better than chance; one of the two may be left out of almost.responders."
            )
