"""The figures of a report: pure functions of tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.gather import gathered
from selfalign_jobs.step.pair_figures import Values, floats, kept_pairs, tokens_of

SAMPLES = 20
OPEN = "not finished yet"  # of records that have not ended


@dataclass(frozen=True, slots=True)
class Stage:
    """Records that came this far, and why others did not: (reason, how many)."""

    label: str
    records: int
    lost: tuple[tuple[str, int], ...]


def funnel(
    table: pa.Table,
    drawn: int,
    source: str,
    milestones: Mapping[str, str] = MappingProxyType({}),
    kept: str = "rows kept",
) -> tuple[Stage, ...]:
    """From the rows drawn to those kept. `table` has the ledger's columns; `source` is what the rows are.

    How far a record came is seen from what is known of it: from the columns of `milestones` (FlowDef) that are filled in.
    """
    names = [name if name in table.column_names else tokens_of(name) for name in milestones]
    records = {row["_record"]: row for row in table.select(["_record", "_status", "_reason", *names]).to_pylist()}
    labels = [f"{source} drawn", *milestones.values(), kept]
    ended: list[Counter[str]] = [Counter() for _ in labels]
    for row in records.values():
        if row["_status"] == "rows":
            ended[-1][""] += 1
        else:
            ended[sum(row[name] is not None for name in names)][row["_reason"] or "no reason given"] += 1
    stages: list[Stage] = []
    left = max(drawn, len(records))
    for label, counts in zip(labels, ended, strict=True):
        lost = Counter({reason: n for reason, n in counts.items() if reason})
        if not stages and drawn > len(records):
            lost[OPEN] = drawn - len(records)
        stages.append(Stage(label, left, tuple(lost.most_common())))
        left -= lost.total()
    return tuple(stages)


def order_margins(table: pa.Table) -> tuple[Values, Values]:
    """The margins of both orders, nats, for the answer sampled first: shown first, and shown second."""
    both = table.filter(pc.and_(pc.is_valid(table["margin_forward"]), pc.is_valid(table["margin_backward"])))
    return floats(both["margin_forward"]), floats(both["margin_backward"])


def scores(table: pa.Table) -> Iterator[tuple[str, Values, Values]]:
    """What scoring models gave the kept rows: `score`, or those of both sides of a pair; empty where there is no second."""
    kept = kept_pairs(table)
    names = [name for name in kept.column_names if name.endswith("score") and pa.types.is_floating(kept[name].type)]
    pair = ["chosen_score", "rejected_score"]
    if set(pair) <= set(names):
        chosen, rejected = (floats(kept[name].drop_null()) for name in pair)
        if len(chosen):
            yield "scores", chosen, rejected
    for name in (name for name in names if name not in pair or not set(pair) <= set(names)):
        values = floats(kept[name].drop_null())
        if len(values):
            yield name.replace("_", " "), values, np.array([])


def sample_pairs(table: pa.Table, seed: int, most: int = SAMPLES) -> list[dict[str, Any]]:
    """Twenty of the kept pairs, drawn by the seed, the surest verdict first; None for what the table does not have."""
    kept = kept_pairs(table)
    columns = [name for name in SHOWN_OF_A_PAIR if name in kept.column_names]
    size = min(most, kept.num_rows)
    drawn = np.sort(np.random.default_rng(seed).choice(kept.num_rows, size, replace=False))
    pairs = [dict.fromkeys(SHOWN_OF_A_PAIR) | pair for pair in gathered(kept.select(columns), drawn).to_pylist()]
    return sorted(pairs, key=lambda pair: -(pair["margin"] or 0.0))


SHOWN_OF_A_PAIR = (
    "persona", "prompt", "chosen", "rejected", "margin", "p_first", "first_chosen", "verdict_forward", "verdict_backward"
)  # fmt: skip
