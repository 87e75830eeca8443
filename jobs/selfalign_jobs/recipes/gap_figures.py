"""What a run of PIT tells of itself: how good the gap model is, length apart, and what the improver does to drafts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.base import Remark

ORDERS = (
    ("wl", "ww"),
    ("wl", "ll"),
    ("wl", "lw"),
    ("ww", "lw"),
    ("ll", "lw"),
)  # the paper's Eq. 2: the first is larger
MATCHED = 0.1  # of the longer answer's characters: how much shorter the other may be for lengths to say nothing

Truths = npt.NDArray[np.bool_]


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """Of the fold that the gap model has not seen; of the candidates; of each pass over the held-out drafts."""
    if "orders" in tables and (table := _rows(tables["orders"])).num_rows:
        yield from _of_gap_model(table)
    if "pairs" in tables and (table := tables["pairs"].filter(pc.is_valid(tables["pairs"]["chosen_score"]))).num_rows:
        yield from _of_candidates(table)
    if "answers" in tables and (table := _rows(tables["answers"])).num_rows:
        for role in pc.unique(table["role"]).to_pylist():
            yield from _of_passes(role, table.filter(pc.equal(table["role"], role)))


def _of_gap_model(table: pa.Table) -> Iterator[Remark]:
    gaps = {pair: table[f"gap_{pair}"].to_numpy() for pair in ("wl", "ww", "ll", "lw")}
    every: Truths = np.logical_and.reduce([gaps[first] > gaps[second] for first, second in ORDERS])
    right, alike = gaps["wl"] > 0, length_matched(table)
    unseen = "of the pairs that the gap model was not trained on"
    yield Remark("orders", "gapOrdersRight", float(every.mean()), f"{unseen} have all five orders right.", share=True)
    yield Remark(
        "orders", "gapRight", float(right.mean()), f"{unseen} have the better answer above the worse.", share=True
    )
    if alike.any():
        words = f"of the {int(alike.sum()):,} of them whose answers are of about one length: what length cannot tell."
        yield Remark("orders", "gapRightLengthMatched", float(right[alike].mean()), words, share=True)


def length_matched(pairs: pa.Table) -> Truths:
    """Pairs whose answers differ in length by a tenth at the most."""
    chosen, rejected = (pc.utf8_length(pairs[side]).to_numpy().astype(np.float64) for side in ("chosen", "rejected"))
    matched: Truths = np.abs(chosen - rejected) <= MATCHED * np.maximum(chosen, rejected)
    return matched


def _of_candidates(table: pa.Table) -> Iterator[Remark]:
    kept = _rows(table)
    words = (
        "of the drafts have a candidate that the gap model finds better, and a worse one: the pairs of SampleRankDPO, which "
        "stands in for the paper's reinforcement learning, of which it does not report how it goes."
    )
    yield Remark("pairs", "draftsBettered", kept.num_rows / table.num_rows, words, share=True)
    same = float(pc.mean(table["unchanged"]).as_py())
    yield Remark("pairs", "candidatesUnchanged", same, "of the candidates are the draft as it was.", share=True)
    if kept.num_rows:
        lengths = [float(pc.sum(pc.utf8_length(kept[name])).as_py()) for name in ("chosen", "draft")]
        words = "is how long the chosen candidates are, where their drafts are 1: a gap model may have learned length."
        yield Remark("pairs", "chosenLengthRatio", lengths[0] / max(1.0, lengths[1]), words)


def _of_passes(role: str, table: pa.Table) -> Iterator[Remark]:
    """Right answers, unchanged texts and lengths after each pass over the drafts of one role."""
    texts = [
        [draft, *passes] for draft, passes in zip(table["draft"].to_pylist(), table["passes"].to_pylist(), strict=True)
    ]
    tokens = np.array(table["passes_tokens"].to_pylist(), dtype=np.float64)
    drafted = float(table["draft_tokens"].to_numpy().mean())
    references = table["reference"].to_pylist()
    asked = [(said, normalised(right)) for said, right in zip(texts, references, strict=True) if right is not None]
    for number in range(len(texts[0])):
        name, after = f"{role}Pass{number}", f"after pass {number} ({role})" if number else f"as drafted ({role})"
        if asked:
            right = sum(normalised(said[number]) == reference for said, reference in asked) / len(asked)
            yield Remark("answers", f"{name}Right", right, f"of the answers are right {after}.", share=True)
        if number:
            same = sum(normalised(said[number]) == normalised(said[number - 1]) for said in texts) / len(texts)
            yield Remark("answers", f"{name}Unchanged", same, f"of the answers are what they were {after}.", share=True)
            ratio = float(tokens[:, number - 1].mean()) / max(1.0, drafted)
            yield Remark("answers", f"{name}LengthRatio", ratio, f"is their length {after}, where the drafts' is 1.")


def _rows(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["_status"], "rows"))
