"""Figures of a table of pairs or verdicts: pure functions, which a step's end and the report share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.recipes.rows import VERDICT_FIELDS

Values = npt.NDArray[np.float64]

VERDICT_COLUMNS = frozenset(field.name for field in VERDICT_FIELDS)
ANSWER_COLUMNS = frozenset({"chosen_ids", "rejected_ids", "chosen_finish", "rejected_finish"})  # of a table of pairs
_DECIDED = ("first", "second")


def counted(table: pa.Table) -> pa.Table:
    """The table with the number of tokens (`…_tokens`) in the place of token ids (`…_ids`).

    Figures need how many there are; the ids themselves would not fit in memory for a large run.
    """
    for place, name in enumerate(table.column_names):
        if name.endswith("_ids") and pa.types.is_list(table.schema.field(name).type):
            table = table.set_column(place, tokens_of(name), pc.list_value_length(table[name]))
    return table


def tokens_of(ids: str) -> str:
    """The name of the column that `counted` makes of a column of token ids."""
    return f"{ids.removesuffix('_ids')}_tokens"


def is_pairs(schema: pa.Schema) -> bool:
    """Whether a flow's rows are pairs of answers."""
    return set(schema.names) >= ANSWER_COLUMNS


def kept_pairs(table: pa.Table) -> pa.Table:
    """The rows that are pairs, without the records that ended otherwise; all of a table that no flow made."""
    if "_status" not in table.column_names:
        return table
    return table.filter(pc.equal(table["_status"], "rows"))


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How the judge judged, over all records that it judged, kept or not. A rate is None where nothing counts for it."""

    judged: int
    calls: int  # verdicts asked for: two a record where both orders were asked
    parsed: float | None  # share of the calls whose verdict could be read; None where nothing is parsed
    first_position: float | None  # share of the deciding calls that prefer the answer shown first
    consistent: float | None  # share of the records decided in both orders whose orders name the same answer
    ties: float | None  # share of the judged records whose margins do not decide; None where nothing has margins
    first_chosen: float | None  # share of the pairs whose chosen answer was sampled first
    median_margin: float | None  # nats, of the pairs kept


def verdicts(table: pa.Table, tie_margin: float = 0.0) -> Verdicts:
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
        parsed=None if by_margin else share_of([v != "unparsed" for v in calls]),
        first_position=share_of(shown_first),
        consistent=share_of(same),
        ties=share_of([p is None or abs(p - 0.5) <= tie_margin for p in judged["p_first"].to_pylist()])
        if by_margin
        else None,
        first_chosen=share_of(kept["first_chosen"].drop_null().to_pylist())
        if "first_chosen" in kept.column_names
        else None,
        median_margin=float(np.median(margins.to_numpy())) if len(margins) else None,
    )


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens of the answers of the kept pairs, the end token counted."""

    chosen: Values
    rejected: Values
    chosen_longer: float  # share of the pairs of unequal length whose chosen answer is the longer
    cut: float | None  # share of all answers that were cut at the token limit; None of answers that nobody here wrote

    @property
    def stretch(self) -> float:
        """Mean of the chosen over mean of the rejected."""
        return float(self.chosen.mean() / max(1.0, self.rejected.mean()))


def lengths(table: pa.Table) -> Lengths | None:
    """The lengths of chosen and rejected answers; None without pairs."""
    kept = kept_pairs(table)
    if kept.num_rows == 0:
        return None
    chosen, rejected = floats(kept["chosen_tokens"]), floats(kept["rejected_tokens"])
    unequal = chosen != rejected
    longer = float((chosen > rejected)[unequal].mean()) if unequal.any() else 0.5
    cut = None
    if "chosen_finish" in kept.column_names:
        finishes = kept["chosen_finish"].to_pylist() + kept["rejected_finish"].to_pylist()
        cut = sum(finish == "length" for finish in finishes) / len(finishes)
    return Lengths(chosen, rejected, longer, cut)


def floats(column: pa.ChunkedArray) -> Values:
    """A column as numbers."""
    values: Values = column.to_numpy().astype(np.float64)
    return values


def share_of(truths: list[bool]) -> float | None:
    """The share that is true; None of nothing."""
    return sum(truths) / len(truths) if truths else None
