"""The figures of a report: pure functions of tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.gather import gathered
from selfalign_jobs.step.pair_figures import Values, floats, kept_pairs

SAMPLES = 20


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


def order_margins(table: pa.Table) -> tuple[Values, Values]:
    """The margins of both orders, nats, for the answer sampled first: shown first, and shown second."""
    both = table.filter(pc.and_(pc.is_valid(table["margin_forward"]), pc.is_valid(table["margin_backward"])))
    return floats(both["margin_forward"]), floats(both["margin_backward"])


def sample_pairs(table: pa.Table, seed: int) -> list[dict[str, Any]]:
    """Twenty of the kept pairs, drawn by the seed, the surest verdict first."""
    kept = kept_pairs(table)
    columns = ["persona", "prompt", "chosen", "rejected", "margin", "p_first", "first_chosen", *_VERDICT_COLUMNS]
    size = min(SAMPLES, kept.num_rows)
    drawn = np.sort(np.random.default_rng(seed).choice(kept.num_rows, size, replace=False))
    pairs: list[dict[str, Any]] = gathered(kept.select(columns), drawn).to_pylist()
    return sorted(pairs, key=lambda pair: -(pair["margin"] or 0.0))


_VERDICT_COLUMNS = ("verdict_forward", "verdict_backward")
