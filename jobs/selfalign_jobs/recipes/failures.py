"""Whole-table functions over what was proposed and found: near duplicates, pairs for the proposer, lessons for the target."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.gather import gathered
from selfalign_jobs.recipes.near_duplicates import near_duplicates
from selfalign_jobs.recipes.tables import first_rows, vectors_of, with_counts
from selfalign_jobs.template import render_template

TO_TEACH = ("prompt", "answer", "oracle", "oracle_score", "failed")
LESSON = pa.schema([("prompt", pa.string()), ("user", pa.string()), ("target", pa.string())])


def distinct(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """Proposals that are near none before them, there or in the `earlier` tables of former iterations, which stand before theirs.

    After those of proposals stand as many with the vectors of their prompts, where these are compared.
    """
    proposed, vectors = tables[: options["earlier"] + 1], tables[options["earlier"] + 1 :]
    new = proposed[-1]
    prompts = pa.chunked_array([chunk for table in proposed for chunk in table["prompt"].chunks], pa.string())
    found = vectors_of(prompts, vectors) if vectors else None
    like = near_duplicates(prompts.to_pylist(), options["near_duplicates"], found)[len(prompts) - new.num_rows :]
    kept = gathered(new, np.flatnonzero(like < 0))
    return with_counts(kept, {"nearDuplicates": new.num_rows - kept.num_rows})


def failure_pairs(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """Pairs for the proposer: what made the target fail over what it handled, at contexts that belong to neither.

    Of each iteration contexts, failures and handled ones are shuffled and put side by side, as many as the shorter list
    has; at most `max_new_pairs`. Raises ConfigError when one of them is empty.
    """
    found, held = _found(tables, options)
    parts, hidden = [], 0
    for number, table in enumerate(found):
        seen = _unseen(table, held)
        hidden += table.num_rows - seen.num_rows
        rng = np.random.default_rng(seed_of(options["seed"], "pairs", number))
        failed = seen["failed"].to_numpy().astype(bool)
        lists = (np.arange(len(failed)), np.flatnonzero(failed), np.flatnonzero(~failed))
        places, failures, handled = (rng.permutation(each) for each in lists)
        size = min(len(failures), len(handled), options["max_new_pairs"] or len(failed))
        contexts, chosen, rejected = (gathered(seen, rows[:size]) for rows in (places, failures, handled))
        parts.append(
            pa.table(
                {
                    "prompt_ids": contexts["context_ids"],
                    "prompt": chosen["prompt"],
                    "chosen": chosen["prompt"],
                    "rejected": rejected["prompt"],
                    "chosen_ids": chosen["proposal_ids"],
                    "rejected_ids": rejected["proposal_ids"],
                }
            )
        )
    pairs, rows = pa.concat_tables(parts), sum(table.num_rows for table in found)
    if pairs.num_rows == 0:
        failing = sum(int(pc.sum(table["failed"]).as_py() or 0) for table in found)
        raise ConfigError.one(
            "spec.reversegen.oracle", f"{_told(rows, failing, hidden)}: nothing tells the two apart. {WRITE}"
        )
    return with_counts(
        pairs, {"pairs": pairs.num_rows, "promptHeldOut": hidden, "unpaired": rows - hidden - pairs.num_rows}
    )


def to_teach(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The proposals that the teacher answers: all that failed, and a share of those that were handled."""
    return taught(*_found(tables, options), options).select(TO_TEACH)


def lessons(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """What the target is hardened on: the same proposals with the teacher's answers.

    These are the last of the tables, or with `compared` what the oracle has compared with.
    """
    given, held = (tables[:-1], tables[-1]) if options["held_out"] else (tables, None)
    found, answers = (given, None) if options["compared"] else (given[:-1], given[-1])
    rows = taught(found, held, options)
    said = (
        dict(zip(rows["prompt"].to_pylist(), rows["reference"].to_pylist(), strict=True))
        if answers is None
        else dict(zip(answers["prompt"].to_pylist(), answers["target"].to_pylist(), strict=True))
    )
    template, learned = options["template"], []
    for prompt in rows["prompt"].to_pylist():
        if prompt in said:
            user = prompt if template is None else render_template(template, {"prompt": prompt})
            learned.append({"prompt": prompt, "user": user, "target": said[prompt]})
    whole = sum(table.num_rows for table in found)
    hidden = whole - sum(_unseen(table, held).num_rows for table in found)
    counts = {"pairs": len(learned), "promptHeldOut": hidden, "handled": whole - hidden - rows.num_rows}
    return with_counts(pa.Table.from_pylist(learned, LESSON), counts)


def taught(found: Sequence[pa.Table], held: pa.Table | None, options: Mapping[str, Json]) -> pa.Table:
    """All proposals that failed, and of those that were handled `handled_percent` of as many, none of them held out.

    Raises ConfigError without a failure.
    """
    seen = pa.concat_tables([_unseen(table, held) for table in found])
    rows = gathered(seen, first_rows(seen["prompt"]))
    failed = rows["failed"].to_numpy().astype(bool)
    failures, handled = np.flatnonzero(failed), np.flatnonzero(~failed).tolist()
    if not len(failures):
        whole = sum(table.num_rows for table in found)
        said = _told(whole, 0, whole - seen.num_rows)
        raise ConfigError.one("spec.reversegen.oracle", f"{said}: there is nothing to harden it on. {WRITE}")
    size = min(len(handled), round(len(failures) * options["handled_percent"] / 100))
    beside = random.Random(seed_of(options["seed"], "handled")).sample(handled, size)
    return gathered(rows, np.sort(np.concatenate([failures, np.array(beside, np.int64)])))


WRITE = (
    "Write a larger reversegen.proposalsPerIteration, another threshold of the oracle, or a verifier that keeps more"
)


def _told(rows: int, failures: int, hidden: int) -> str:
    words = (
        f"of {rows:,} valid and distinct proposals the target failed on {failures:,} and handled {rows - failures:,}"
    )
    return words + (f", and {hidden:,} are held out for evaluation" if hidden else "")


def _found(tables: Sequence[Any], options: Mapping[str, Json]) -> tuple[Sequence[pa.Table], pa.Table | None]:
    """The iterations' tables, and where there is one that of prompts that training must not see."""
    return (tables[:-1], tables[-1]) if options["held_out"] else (tables, None)


def _unseen(found: pa.Table, held: pa.Table | None) -> pa.Table:
    if held is None:
        return found
    seen = pc.is_in(found["prompt"], held["prompt"].combine_chunks()).to_numpy()
    return gathered(found, np.flatnonzero(~seen))
