"""Provenance as a label: of two answers to a prompt the better one is that of the responder who is known to be better.

Whole-table functions over the tables of several responders, the strongest first. Comparisons whose better answer is
doubtful are left out: one that evades, and one that is short where a short answer is likely to be a failure. One prompt in
ten is kept from the reward model, with all its answers, and tells how well it orders what it has not seen.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.tables import with_counts

VALIDATION = 10  # one prompt in so many: ours
EVASIVE = (  # how an answer begins that says nothing: ours
    "i don't know",
    "i do not know",
    "i'm not sure",
    "i am not sure",
    "i'm sorry",
    "i am sorry",
    "i can't",
    "i cannot",
    "well,",
    "as an ai",
)
TEXTS = pa.list_(pa.string())
COMPARED = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt", "chosen", "rejected")),
        *((name, pa.int32()) for name in ("better", "worse")),  # places of the two in the list of responders, from 1
    ]
)
VALIDATED = pa.schema([("prompt", pa.string()), ("responders", TEXTS), ("responses", TEXTS)])

Answers = tuple[Mapping[str, Any] | None, ...]  # to a prompt, a responder each; None where that gave none


def comparisons(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The comparisons that teach the reward model. With `held_out` the last table has the prompts that it must not see.

    Raises ConfigError when nothing is left.
    """
    responses, held = (tables[:-1], tables[-1]) if options["held_out"] else (tables, None)
    apart = set() if held is None else set(held["prompt"].to_pylist())
    rows: list[dict[str, Any]] = []
    lost: Counter[str] = Counter()
    for prompt, answers in answered(responses):
        if prompt in apart:
            lost["promptHeldOut"] += 1
        elif is_kept(prompt, options["seed"]):
            lost["forValidation"] += 1
        else:
            for better, worse in compared(len(responses), options["pairs"]):
                reason = _doubt(answers, better, worse, options)
                lost.update([reason] if reason else [])
                if reason is None:
                    rows.append(_comparison(prompt, answers, better, worse))
    if not rows:
        told = ", ".join(f"{name} {number:,}" for name, number in sorted(lost.items()) if name) or "no answers"
        raise ConfigError.one(
            "spec.almost.responders",
            f"give no comparison to train the reward model on ({told}); write responders that differ more, more prompts, or "
            "almost: {doubtful: Keep}",
        )
    counts = {"pairs": len(rows)} | {name: number for name, number in lost.items() if name != "unanswered"}
    return with_counts(pa.Table.from_pylist(rows, COMPARED), counts)


def most_comparisons(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """So many of each prompt that all responders answer."""
    return min(rows) * len(compared(len(rows), options["pairs"]))


def validation_answers(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The prompts that the reward model does not see, with the answers of all responders."""
    rows = [
        {
            "prompt": prompt,
            "responders": options["responders"],
            "responses": [answer and answer["response"] for answer in answers],
        }
        for prompt, answers in answered(tables)
        if is_kept(prompt, options["seed"])
    ]
    return pa.Table.from_pylist(rows, VALIDATED)


def answered(tables: Sequence[pa.Table]) -> Iterator[tuple[str, Answers]]:
    """Each prompt with the answer of each responder, in the order of the first one's."""
    by_prompt = [{row["prompt"]: row for row in table.to_pylist()} for table in tables]
    for prompt in dict.fromkeys(prompt for answers in by_prompt for prompt in answers):
        yield prompt, tuple(answers.get(prompt) for answers in by_prompt)


def is_kept(prompt: str, seed: int) -> bool:
    """Whether a prompt is kept from the reward model: all its answers, or none."""
    return seed_of(seed, "validation", prompt) % VALIDATION == 0


def compared(responders: int, pairs: str) -> list[tuple[int, int]]:
    """Which responders are compared, the better one first: all, or each with the next."""
    if pairs == "Neighbours":
        return [(place, place + 1) for place in range(responders - 1)]
    return list(combinations(range(responders), 2))


def _doubt(answers: Answers, better: int, worse: int, options: Mapping[str, Any]) -> str | None:
    """Why a comparison is left out."""
    chosen, rejected = answers[better], answers[worse]
    if chosen is None or rejected is None:
        return "unanswered"
    if options["identical"] == "Drop" and normalised(chosen["response"]) == normalised(rejected["response"]):
        return "identical"
    if options["truncated"] == "Drop" and "length" in (chosen["finish"], rejected["finish"]):
        return "cutAnswers"
    if options["doubtful"] == "Keep":
        return None
    if chosen["response"].casefold().startswith(EVASIVE):
        return "evasive"
    lengths = [len(answer["response"]) for answer in answers if answer is not None]
    enough = statistics.fmean(lengths) - statistics.pstdev(lengths) / 2
    return "short" if len(chosen["response"]) < min(enough, len(rejected["response"])) else None


def _comparison(prompt: str, answers: Answers, better: int, worse: int) -> dict[str, Any]:
    chosen, rejected = answers[better], answers[worse]
    assert chosen is not None and rejected is not None
    texts = {"chosen": chosen["response"], "rejected": rejected["response"]}
    return {"prompt": prompt} | texts | {"better": better + 1, "worse": worse + 1}
