"""PIT's flows: drafts are improved, improvements scored by their gap over the draft, best and worst make a pair."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pyarrow as pa

from selfalign_jobs.flow import Ask, Dropped, Request, Row, Scores, SetAside
from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.rows import ANSWERS, IDS, SCORED_PAIRS, history_of

Flow = Generator[Request | list[Request], Any, list[Row]]
Gaps = Generator[Request | list[Request], Any, list[float]]

DRAFTED = ("history", "prompt", "draft", "drafted_by")
DRAFTS = pa.schema([(name, pa.string()) for name in DRAFTED])
CANDIDATES = pa.schema(
    [
        *DRAFTS,
        ("prompt_ids", IDS),  # of the improver's turn
        ("candidates", pa.list_(pa.string())),
        ("candidates_ids", pa.list_(IDS)),
        ("candidates_finish", pa.list_(pa.string())),
        ("answer_seed", pa.uint64()),
    ]
)
# What the gap model says of a pair that it was not trained on: of better and worse, each against each (Eq. 2).
ORDERS = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt", "chosen", "rejected")),
        *((f"gap_{pair}", pa.float64()) for pair in ("wl", "ww", "ll", "lw")),
    ]
)
PAIRS = pa.schema(
    [
        *SCORED_PAIRS,  # their scores are gaps over the draft
        ("draft", pa.string()),
        ("drafted_by", pa.string()),
        ("unchanged", pa.float64()),  # share of the candidates that are the draft
    ]
)
PASSES = pa.schema(
    [
        *ANSWERS,  # the answer is the last pass's
        ("draft", pa.string()),
        ("draft_tokens", pa.int32()),
        ("passes", pa.list_(pa.string())),  # the texts, first to last
        ("passes_tokens", pa.list_(pa.int32())),
    ]
)


def draft(row: Row, ask: Ask) -> Flow:
    """Prompt → an answer of the model that drafts."""
    (written,) = yield ask.write("respond", prompt=row["prompt"], history=history_of(row["history"]))
    return [{"history": row["history"], "prompt": row["prompt"], "draft": written.text, "drafted_by": "policy"}]


def improve(row: Row, ask: Ask) -> Flow:
    """Draft → several candidates of the improver."""
    asking = {"prompt": row["prompt"], "draft": row["draft"], "history": history_of(row["history"])}
    written = yield ask.write("improve", n=ask.options["candidates"], **asking)
    seen = {name: row[name] for name in DRAFTED} | {"prompt_ids": written[0].prompt_ids, "answer_seed": written[0].seed}
    kept = [each for each in written if ask.options["truncated"] == "Keep" or each.finish_reason != "length"]
    if not kept:
        raise Dropped("answer cut at maxTokens", row=seen)
    return [
        seen
        | {
            "candidates": [each.text for each in kept],
            "candidates_ids": [each.ids for each in kept],
            "candidates_finish": [each.finish_reason for each in kept],
        }
    ]


def rank_candidates(row: Row, ask: Ask) -> Flow:
    """Candidates → the one with the largest gap over the draft, against the one with the smallest."""
    said = row["candidates"]
    texts = list(dict.fromkeys(said))
    found = yield from gaps(ask, row, row["draft"], texts)
    best, worst = found.index(max(found)), found.index(min(found))
    as_drafted = [normalised(text) == normalised(row["draft"]) for text in said]
    seen = {name: row[name] for name in ("prompt", "prompt_ids", "answer_seed", "draft", "drafted_by")} | {
        "unchanged": sum(as_drafted) / len(said),
        "chosen_score": found[best],
        "rejected_score": found[worst],
    }
    if found[best] <= 0:
        raise Dropped("no candidate is better than the draft", row=seen)
    if found[best] == found[worst]:
        raise Dropped("best and worst are the same", row=seen)
    for side, place in (("chosen", said.index(texts[best])), ("rejected", said.index(texts[worst]))):
        seen |= {side: said[place]} | {f"{side}_{part}": row[f"candidates_{part}"][place] for part in ("ids", "finish")}
    return [seen]


def order_pair(row: Row, ask: Ask) -> Flow:
    """A pair that the gap model has not seen → its four gaps; a pair that does not fit into its context has none."""
    seen = {name: row[name] for name in ("prompt", "chosen", "rejected")}
    for draft, pairs in (("rejected", ("wl", "ll")), ("chosen", ("ww", "lw"))):
        try:
            found = yield from gaps(ask, row, row[draft], [row["chosen"], row["rejected"]])
        except SetAside as too_long:
            raise Dropped(too_long.reason, row=seen) from too_long
        seen |= {f"gap_{pair}": value for pair, value in zip(pairs, found, strict=True)}
    return [seen]


def gaps(ask: Ask, row: Row, draft: str, answers: Sequence[str]) -> Gaps:
    """How much better each answer is than the draft: read of both together, or the difference of their rewards."""
    history, prompt = history_of(row["history"]), row["prompt"]
    if ask.options["gap_model"] == "Joint":
        user = ask.turn("improve", prompt=prompt, draft=draft)
        return rewards((yield [ask.score(user, answer, "improve", history=history) for answer in answers]))
    several = rewards((yield [ask.score(prompt, text, "improve", history=history) for text in (draft, *answers)]))
    return [reward - several[0] for reward in several[1:]]


def rewards(replies: Sequence[Scores]) -> list[float]:
    """The one number of each reply."""
    return [reply.reward for reply in replies]


def improve_repeatedly(row: Row, ask: Ask) -> Flow:
    """A drafted answer to a held-out prompt → what is left of it after each pass of the improver, each of the one before."""
    texts, tokens, finish, seed = [row["answer"]], [row["tokens"]], row["finish"], row["seed"]
    for _ in range(ask.options["passes"]):
        (written,) = yield ask.write("improve", prompt=row["prompt"], draft=texts[-1])
        texts.append(written.text)
        tokens.append(len(written.ids))
        finish, seed = written.finish_reason, written.seed
    last = {"answer": texts[-1], "tokens": tokens[-1], "finish": finish, "seed": seed}
    drafted = {"draft": texts[0], "draft_tokens": tokens[0], "passes": texts[1:], "passes_tokens": tokens[1:]}
    return [{**row} | last | drafted]
