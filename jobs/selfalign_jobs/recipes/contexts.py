"""Whole-table functions over seed instructions: what teaches to propose, and contexts of which none comes twice."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import Rows
from selfalign_jobs.recipes.own_tables import set_apart
from selfalign_jobs.recipes.tables import counts_of, drawn_numbers, first_rows, with_counts
from selfalign_jobs.template import render_template

TEXTS = pa.list_(pa.string())
URL = "spec.data.prompts.url"


def shots(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """What teaches to propose: each seed once as the target, after `shots` others. No two have the same others.

    The seeds stand in a circle, in an order that is drawn; before each are its others.
    """
    found = seed_prompts(tables, options)
    texts = found["prompt"].to_pylist()
    random.Random(seed_of(options["seed"], "circle")).shuffle(texts)
    taught = []
    for place, target in enumerate(texts):
        context = [texts[place - back] for back in range(options["shots"], 0, -1)]
        user = render_template(options["template"], {"context": context})
        taught.append({"prompt": target, "user": user, "target": target})
    schema = pa.schema([(name, pa.string()) for name in ("prompt", "user", "target")])
    return with_counts(pa.Table.from_pylist(taught, schema), counts_of(found) | {"pairs": len(taught)})


def contexts(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """`rows` sets of `shots` seeds each, from the set `first` on of an order of all sets that is drawn.

    So none comes twice, in an iteration or in several. Raises ConfigError when there are not so many.
    """
    texts = seed_prompts(tables, options)["prompt"].to_pylist()
    size, first, rows, seed = options["shots"], options["first"], options["rows"], options["seed"]
    there = math.comb(len(texts), size)
    if first + rows > there:
        raise ConfigError.one(
            URL,
            f"has {len(texts):,} seeds, of which {there:,} different contexts of {size} can be made, and {first + rows:,} are "
            "needed; give more seeds, or write a smaller reversegen.proposalsPerIteration or fewer iterations",
        )
    found = []
    for number in range(first, first + rows):
        members = combination(shuffled_number(number, there, seed), len(texts), size)
        random.Random(seed_of(seed, "order", number)).shuffle(members)
        found.append([texts[member] for member in members])
    return pa.table({"context": pa.array(found, TEXTS)})


def seed_prompts(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The seeds that are drawn, each once, less those that are held out: set apart, or with `held_out` the second table's.

    Raises ConfigError when too few are left for one context and its target.
    """
    source = tables[0]
    held = tables[1].take(row_numbers(np.arange(tables[1].num_rows))) if options["held_out"] else None
    apart = set_apart(source, options) if held is None else held
    rows = source.take(row_numbers(drawn_numbers(source.num_rows, options)))
    first = np.zeros(rows.num_rows, bool)
    first[first_rows(rows["prompt"])] = True
    unseen = ~pc.is_in(rows["prompt"], apart["prompt"].combine_chunks()).to_numpy()
    left = gathered(rows.select(["prompt"]), np.flatnonzero(first & unseen))
    if left.num_rows <= options["shots"]:
        raise ConfigError.one(
            URL,
            f"leaves {left.num_rows:,} seeds of {rows.num_rows:,} rows drawn ({int((~first).sum()):,} come twice, "
            f"{int((~unseen).sum()):,} are held out for evaluation), and a context of {options['shots']} with one to write needs "
            "more; give other rows, or write a smaller reversegen.contextShots",
        )
    return with_counts(left, {"promptHeldOut": int((~unseen).sum())})


# --- all sets of so many seeds, in an order that is drawn, none of which is ever held -------------------------------------


def shuffled_number(number: int, count: int, seed: int) -> int:
    """Where a number below `count` comes in an order of all of them that the seed draws: an affine map modulo `count`."""
    rng = random.Random(seed_of(seed, "contexts", count))
    factor, shift = rng.randrange(count) | 1, rng.randrange(count)
    while math.gcd(factor, count) != 1:
        factor += 2
    return (factor * number + shift) % count


def combination(number: int, seeds: int, size: int) -> list[int]:
    """The set of that number among all sets of so many of the seeds: Lehmer's combinatorial number system."""
    members: list[int] = []
    high = seeds
    for left in range(size, 0, -1):
        low = left - 1
        while high - low > 1:  # the largest member of which there are not more sets than `number`
            middle = (low + high) // 2
            low, high = (middle, high) if math.comb(middle, left) <= number else (low, middle)
        members.append(low)
        number -= math.comb(low, left)
        high = low
    return members
