"""Demonstrations before a prompt, as a model that nobody instructed needs them to answer; and how it is shown them.

A model with a chat template is shown them as turns. One without is shown a dialogue as plain text with labels of the two
speakers, and what it says ends where the next speaker's label begins.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import Rows
from selfalign_jobs.recipes.tables import drawn_numbers, first_rows

HUMAN, ASSISTANT = "Human:", "Assistant:"
NEXT_SPEAKER = (f"\n{HUMAN}", f"\n{ASSISTANT}")
DIALOGUE = (  # a chat template
    "{{ bos_token if bos_token else '' }}{% for message in messages %}"
    f"{{{{ '{HUMAN}' if message['role'] == 'user' else '{ASSISTANT}' }}}} {{{{ message['content'] }}}}\n\n"
    f"{{% endfor %}}{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
)
QUERIES = pa.schema([("prompt", pa.string()), ("history", pa.string())])


def said(text: str) -> str:
    """What a speaker says: stripped, and no further than to the next speaker's label."""
    ends = [place for label in NEXT_SPEAKER if (place := text.find(label)) >= 0]
    return text[: min(ends, default=len(text))].strip()


def queries(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The prompts that are drawn, each once, with `shots` demonstrations of the second table before each.

    Best: the first rows of the table, which are the best by its maker's word; Any: rows drawn anew for each prompt, of which
    a responder with fewer shots is shown the first. No prompt is shown its own answer. Raises ConfigError for too few rows.
    """
    source = tables[0]
    asked = source.take(row_numbers(drawn_numbers(source.num_rows, options)))
    prompts = gathered(asked, first_rows(asked["prompt"]))["prompt"].to_pylist()
    if not options["shots"]:
        return pa.Table.from_pylist([{"prompt": prompt, "history": None} for prompt in prompts], QUERIES)
    pairs = _of_one_turn(tables[1])
    if len(pairs) < options["shots"]:
        raise ConfigError.one(
            "spec.data.demonstrations.url",
            f"has {len(pairs)} rows that begin a conversation, and a responder is shown {options['shots']}; write fewer "
            "almost.responders[].shots, or give more demonstrations",
        )
    rows = []
    for prompt in prompts:
        others = (pair for pair in _in_order(pairs, prompt, options) if pair[0] != prompt)
        shown = [pair for pair, _ in zip(others, range(options["shots"]), strict=False)]
        turns = [turn for user, answer in shown for turn in (("user", user), ("assistant", answer))]
        rows.append({"prompt": prompt, "history": json.dumps(turns, ensure_ascii=False)})
    return pa.Table.from_pylist(rows, QUERIES)


def _of_one_turn(source: Rows) -> list[tuple[str, str]]:
    """Prompt and answer of the demonstrations that begin a conversation."""
    rows = source.take(row_numbers(np.arange(source.num_rows)))
    found = rows.filter(pc.is_null(rows["history"])).select(["prompt", "response"])
    return [(row["prompt"], row["response"]) for row in found.to_pylist()]


def _in_order(
    pairs: list[tuple[str, str]], prompt: str, options: Mapping[str, Any]
) -> Iterator[tuple[str, str]] | list[tuple[str, str]]:
    """The demonstrations as a prompt is shown them."""
    if options["demonstrations"] == "Best":
        return pairs
    rng = random.Random(seed_of(options["seed"], "shots", prompt))
    most = min(len(pairs), options["most_shots"] + 1)  # one of them may be the prompt's own
    return (pairs[number] for number in rng.sample(range(len(pairs)), most))
