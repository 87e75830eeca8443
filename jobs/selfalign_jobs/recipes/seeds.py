"""Whole-table functions over seeds, prompts with good answers, and over a corpus: what teaches to write prompts and to improve.

A seed's prompt begins a conversation; none of them is held out.
"""

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
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import Rows
from selfalign_jobs.recipes.keywords import BYTES, LETTERS, drawn, keywords
from selfalign_jobs.recipes.own_tables import set_apart
from selfalign_jobs.recipes.tables import counts_of, drawn_numbers, first_rows, with_counts
from selfalign_jobs.template import render_template

WORDS = pa.list_(pa.string())
TRIES = 16  # of other seeds, for one that has noise words
QUESTION, SOLUTION = ("<question>", "</question>"), ("<solution>", "</solution>")
TAUGHT = pa.schema([("prompt", pa.string()), ("keywords", WORDS), ("user", pa.string()), ("target", pa.string())])


def seeds(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The demonstrations that are drawn, each prompt once, less those whose prompt is held out.

    Held out is what is set apart of the table itself, or with `held_out` the prompts of the second table. Raises ConfigError
    when none is left.
    """
    source = tables[0]
    held = (
        tables[1].take(row_numbers(np.arange(tables[1].num_rows)))
        if options["held_out"]
        else set_apart(source, options)
    )
    rows = source.take(row_numbers(drawn_numbers(source.num_rows, options)))
    first = np.zeros(rows.num_rows, bool)
    first[first_rows(rows["prompt"])] = True
    begins = pc.is_null(rows["history"]).to_numpy()
    unseen = ~pc.is_in(rows["prompt"], held["prompt"].combine_chunks()).to_numpy()
    left = gathered(rows.select(["prompt", "response"]), np.flatnonzero(first & begins & unseen))
    if rows.num_rows and not left.num_rows:
        raise ConfigError.one(
            "spec.data.demonstrations.url",
            f"has no seed among the {rows.num_rows:,} rows drawn: {int((~begins).sum()):,} go on with a conversation, and of "
            f"{int((~unseen).sum()):,} the prompt is held out for evaluation; give rows of one turn, and other evaluation.prompts",
        )
    return with_counts(left, {"promptHeldOut": int((~unseen).sum())})


def words_to_prompts(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """What teaches to write prompts: keywords of a seed and of another one → the seed's question and its solution, in tags.

    Raises ConfigError when no seed has enough keywords.
    """
    found = seeds(tables, options)
    rows = found.to_pylist()
    words = [keywords(row["prompt"]) for row in rows]
    taught = []
    for number, row in enumerate(rows):
        said = _asked(words, number, options)
        if said is not None and not any(tag in row["prompt"] for tag in (*QUESTION, *SOLUTION)):
            user = render_template(options["template"], {"keywords": said})
            target = "\n".join(
                text.join(tags) for text, tags in ((row["prompt"], QUESTION), (row["response"], SOLUTION))
            )
            taught.append({"prompt": row["prompt"], "keywords": said, "user": user, "target": target})
    if rows and not taught:
        raise ConfigError.one(
            "spec.data.demonstrations.url",
            f"has no prompt with {options['seed_words']} keywords of its own and {options['noise_words']} of another's among "
            f"{len(rows):,} seeds ({_rule()}); write a smaller synpo.seedWords, or give other seeds",
        )
    counts = counts_of(found) | {"pairs": len(taught), "fewKeywords": len(rows) - len(taught)}
    return with_counts(pa.Table.from_pylist(taught, TAUGHT), counts)


def _asked(words: Sequence[list[str]], number: int, options: Mapping[str, Json]) -> list[str] | None:
    """The keywords that a seed is asked for with: its own and the noise, in an order that does not tell them apart."""
    seed, own = options["seed"], words[number]
    rng = random.Random(seed_of(seed, "noise", number))
    said = drawn(own, options["seed_words"], seed, "own", number)
    if said is None or options["noise_words"] == 0:
        return said
    for _ in range(TRIES):
        other = rng.randrange(len(words))
        noise = drawn(words[other], options["noise_words"], seed, "other", number, other, but={*own})
        if other != number and noise is not None:
            return rng.sample([*said, *noise], len(said) + len(noise))
    return None


def word_lists(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """Keywords of one paragraph each, of the paragraphs that are drawn. Raises ConfigError when none has enough."""
    (source,) = tables
    rows = source.take(row_numbers(drawn_numbers(source.num_rows, options)))
    found = [
        drawn(keywords(text), options["words"], options["seed"], "list", options["part"], number)
        for number, text in enumerate(rows["text"].to_pylist())
    ]
    lists = [words for words in found if words is not None]
    if found and not lists:
        raise ConfigError.one(
            "spec.data.corpus.url",
            f"has no paragraph with {options['words']} usable words among the {len(found):,} drawn ({_rule()}); give other text, "
            "a paragraph a row, or write a smaller synpo.wordsPerPrompt",
        )
    return pa.table({"keywords": pa.array(lists, WORDS)})


def improvements(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """What teaches to improve: the seeds whose answer's score is above the model's by `min_gap`, none held out.

    With `held_out` the last table has the prompts that training must not see. Raises ConfigError when no seed is left.
    """
    scored = tables[0]
    seen = np.zeros(scored.num_rows, bool)
    if options["held_out"]:
        seen = pc.is_in(scored["prompt"], tables[-1]["prompt"].combine_chunks()).to_numpy()
    below = pc.less(scored["gap"], options["min_gap"]).to_numpy() & ~seen
    taught = gathered(scored, np.flatnonzero(~below & ~seen))
    if not taught.num_rows:
        best = pc.max(scored["gap"]).as_py()
        told = "no seed was scored" if best is None else f"the best gap of {scored.num_rows:,} seeds is {best:.4g}"
        raise ConfigError.one(
            "spec.synpo.minSeedScoreGap",
            f"is {options['min_gap']:g}, and no seed's answer scores higher than the model's by as much ({told}): there is "
            "nothing to teach the improver; write a smaller minSeedScoreGap, or give better seeds",
        )
    counts: dict[str, Any] = {"pairs": taught.num_rows, "promptHeldOut": int(seen.sum()), "belowGap": int(below.sum())}
    return with_counts(taught, counts)


def _rule() -> str:
    """The rule of keywords in short, for who must give other text."""
    return f"words of {LETTERS} letters to {BYTES} bytes, in small letters, no stop words and no names"
