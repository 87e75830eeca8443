"""The figures of a report: pure functions of tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.evaluate.statistics import normalised

SAMPLES = 20

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stage:
    """Records that came this far, and why others did not: (reason, how many)."""

    label: str
    records: int
    lost: tuple[tuple[str, int], ...]


def funnel(table: pa.Table, drawn: int, source: str) -> tuple[Stage, ...]:
    """From the rows drawn to the pairs kept. `table` has the ledger's columns; `source` is what the rows are.

    How far a record came is seen from what is known of it: its prompt, its prompt's ids (it was answered), its verdict.
    """
    columns = ["_record", "_status", "_reason", "prompt", "prompt_tokens", "verdict_forward"]
    records = {row["_record"]: row for row in table.select(columns).to_pylist()}
    labels = [f"{source} drawn", "prompts written", "answered twice", "judged", "pairs kept"]
    ended: list[Counter[str]] = [Counter() for _ in labels]
    for row in records.values():
        reason = "" if row["_status"] == "rows" else row["_reason"] or "no reason given"
        ended[_reached(row)][reason] += 1
    stages: list[Stage] = []
    left = max(drawn, len(records))
    for label, counts in zip(labels, ended, strict=True):
        lost = Counter({reason: n for reason, n in counts.items() if reason})
        if not stages and drawn > len(records):
            lost["not finished yet"] = drawn - len(records)
        stages.append(Stage(label, left, tuple(lost.most_common())))
        left -= lost.total()
    return tuple(stages)


def _reached(row: dict[str, Any]) -> int:
    if row["_status"] == "rows":
        return 4
    return sum(row[name] is not None for name in ("prompt", "prompt_tokens", "verdict_forward"))


def repetition(table: pa.Table) -> float | None:
    """Share of the written prompts that equal an earlier one, up to whitespace; None without prompts."""
    prompts = [normalised(prompt) for prompt in table["prompt"].to_pylist() if prompt is not None]
    return 1 - len(set(prompts)) / len(prompts) if prompts else None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How the judge judged, over all records that it judged, kept or not. A rate is None where nothing counts for it."""

    judged: int
    calls: int  # verdicts asked for: two a record where both orders were asked
    parsed: float | None  # share of the calls whose verdict could be read; None where nothing is parsed
    first_position: float | None  # share of the deciding calls that prefer the answer shown first
    consistent: float | None  # share of the records decided in both orders whose orders name the same answer
    first_chosen: float | None  # share of the pairs whose chosen answer was sampled first
    median_margin: float | None  # nats, of the pairs kept


def verdicts(table: pa.Table) -> Verdicts:
    """The judge's figures. Verdicts are about answers: backward "second" prefers the answer then shown first."""
    judged = table.filter(pc.is_valid(table["verdict_forward"]))
    forward, backward = judged["verdict_forward"].to_pylist(), judged["verdict_backward"].to_pylist()
    shown_first = [v == "first" for v in forward if v in _DECIDED] + [v == "second" for v in backward if v in _DECIDED]
    same = [f == b for f, b in zip(forward, backward, strict=True) if f in _DECIDED and b in _DECIDED]
    calls = [v for v in forward + backward if v is not None]
    by_margin = judged["margin_forward"].null_count < judged.num_rows
    kept = kept_pairs(table)
    margins = kept["margin"].drop_null()
    return Verdicts(
        judged=judged.num_rows,
        calls=len(calls),
        parsed=None if by_margin else _share([v != "unparsed" for v in calls]),
        first_position=_share(shown_first),
        consistent=_share(same),
        first_chosen=_share(kept["first_chosen"].to_pylist()),
        median_margin=float(np.median(margins.to_numpy())) if len(margins) else None,
    )


_DECIDED = ("first", "second")


def _share(truths: list[bool]) -> float | None:
    return sum(truths) / len(truths) if truths else None


def order_margins(table: pa.Table) -> tuple[Values, Values]:
    """The margins of both orders, nats, for the answer sampled first: shown first, and shown second."""
    both = table.filter(pc.and_(pc.is_valid(table["margin_forward"]), pc.is_valid(table["margin_backward"])))
    return _floats(both["margin_forward"]), _floats(both["margin_backward"])


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens of the answers of the kept pairs, the end token counted."""

    chosen: Values
    rejected: Values
    chosen_longer: float  # share of the pairs of unequal length whose chosen answer is the longer
    cut: float  # share of all answers that were cut at the token limit


def lengths(table: pa.Table) -> Lengths | None:
    """The lengths of chosen and rejected answers; None without pairs."""
    kept = kept_pairs(table)
    if kept.num_rows == 0:
        return None
    chosen, rejected = _floats(kept["chosen_tokens"]), _floats(kept["rejected_tokens"])
    unequal = chosen != rejected
    finishes = kept["chosen_finish"].to_pylist() + kept["rejected_finish"].to_pylist()
    longer = float((chosen > rejected)[unequal].mean()) if unequal.any() else 0.5
    return Lengths(chosen, rejected, longer, sum(finish == "length" for finish in finishes) / len(finishes))


def sample_pairs(table: pa.Table, seed: int) -> list[dict[str, Any]]:
    """Twenty of the kept pairs, drawn by the seed, the surest verdict first."""
    kept = kept_pairs(table)
    columns = ["persona", "prompt", "chosen", "rejected", "margin", "p_first", "first_chosen", *_VERDICT_COLUMNS]
    size = min(SAMPLES, kept.num_rows)
    drawn = np.sort(np.random.default_rng(seed).choice(kept.num_rows, size, replace=False))
    pairs: list[dict[str, Any]] = kept.select(columns).take(pa.array(drawn)).to_pylist()
    return sorted(pairs, key=lambda pair: -(pair["margin"] or 0.0))


_VERDICT_COLUMNS = ("verdict_forward", "verdict_backward")


def kept_pairs(table: pa.Table) -> pa.Table:
    """The rows that are pairs, without the records that ended otherwise."""
    return table.filter(pc.equal(table["_status"], "rows"))


def _floats(column: pa.ChunkedArray) -> Values:
    values: Values = column.to_numpy().astype(np.float64)
    return values
