"""What deserves a second look in the tables that a step generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import FlowJob, Judge, SourceRef
from selfalign_api.sources import DataSource
from selfalign_jobs.places.store import Folder, TableEntry
from selfalign_jobs.recipes.answers import repetition
from selfalign_jobs.recipes.base import FlowDef
from selfalign_jobs.step import second_look
from selfalign_jobs.step.pair_figures import ANSWER_COLUMNS, VERDICT_COLUMNS, counted, kept_pairs, lengths, verdicts

ENOUGH = 100_000  # records that figures are taken of: more would move no share by a hundredth, and cost memory
LEDGER = ("_status", "_reason")
READ = (*ANSWER_COLUMNS, *VERDICT_COLUMNS, "prompt", "prompt_seed", "first_chosen", *LEDGER)


def on_rows(folder: Folder, entry: TableEntry, flow: FlowDef) -> Iterator[str]:
    """What a flow says itself of the rows that it made."""
    table = _head(folder, entry, (*flow.schema.names, *LEDGER))
    if table is not None:
        yield from flow.notes(kept_pairs(table))


def on_pairs(
    folder: Folder, entry: TableEntry, outcomes: Counter[tuple[str, str | None]], judge: Judge | None
) -> Iterator[str]:
    """A finished table of pairs: what became of its records, its verdicts, prompts and lengths."""
    lost = {reason: number for (_, reason), number in outcomes.items() if reason is not None}
    yield from second_look.on_records(outcomes.total(), outcomes["rows", None], lost)
    table = _head(folder, entry, READ)
    if table is None:
        return
    table = counted(table)
    if set(table.column_names) >= VERDICT_COLUMNS and (found := verdicts(table, tie_margin_of(judge))).judged:
        yield from second_look.on_verdicts(found)
    yield from second_look.on_prompts(repetition(table))
    if (answers := lengths(table)) is not None:
        yield from second_look.on_lengths(answers)


def on_turns(folder: Folder, job: FlowJob, sources: Mapping[str, DataSource]) -> Iterator[str]:
    """Which answer was taken of rows that are conversations (places/tables/dialogues.py)."""
    for name in (ref.name for ref in job.rows.inputs if isinstance(ref, SourceRef)):
        if (which := sources[name].turn) is not None:
            answers = folder.read_table(f"prepared/{job.out}.parquet", columns=["answers"])["answers"]
            several = pc.sum(pc.greater(answers, 1)).as_py() or 0
            yield from second_look.on_turns(name, len(answers), several, which)


def on_judging(folder: Folder, entry: TableEntry, judge: Judge | None) -> Iterator[str]:
    """A finished table of verdicts."""
    table = _head(folder, entry, (*VERDICT_COLUMNS, *LEDGER))
    if table is not None and (found := verdicts(table, tie_margin_of(judge))).judged:
        yield from second_look.on_verdicts(found)


def tie_margin_of(judge: Judge | None) -> float:
    """How near to 0.5 a tie is."""
    return judge.tie_margin if judge else 0.0


def on_answers(before: pa.Table, after: pa.Table) -> Iterator[str]:
    """How long the answers of the initial and of the new model are."""
    if before.num_rows and after.num_rows:
        yield from second_look.on_growth(*(pc.mean(table["tokens"]).as_py() for table in (before, after)))


def _head(folder: Folder, entry: TableEntry, columns: tuple[str, ...]) -> pa.Table | None:
    """The first parts of a table, until there are enough records in them."""
    parts: list[pa.Table] = []
    for part in entry.parts:
        if sum(table.num_rows for table in parts) >= ENOUGH:
            break
        parts.append(folder.read_table(part, columns=list(columns)))
    return pa.concat_tables(parts, promote_options="default") if parts else None
