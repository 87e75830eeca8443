"""The tables that recipes make, by schema: one pair schema for all of them."""

from __future__ import annotations

import json

import pyarrow as pa

IDS = pa.list_(pa.int32())

VERDICT_FIELDS = [
    pa.field("p_first", pa.float64()),  # mean probability, over both orders, that the first answer is better
    pa.field("margin", pa.float64()),  # nats, mean of both orders, of the chosen over the rejected
    pa.field("verdict_forward", pa.string()),  # first, second, tie, unparsed: about the answers, not the positions
    pa.field("verdict_backward", pa.string()),
    pa.field("margin_forward", pa.float64()),  # log p(first better) - log p(second better), nats
    pa.field("margin_backward", pa.float64()),
]

# A prompt with two answers, for another model to judge.
CANDIDATES = pa.schema(
    [
        pa.field("persona", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("first", pa.string()),
        pa.field("second", pa.string()),
        pa.field("prompt_ids", IDS),
        pa.field("first_ids", IDS),
        pa.field("second_ids", IDS),
        pa.field("first_finish", pa.string()),
        pa.field("second_finish", pa.string()),
        pa.field("prompt_seed", pa.uint64()),
        pa.field("answer_seed", pa.uint64()),
    ]
)

PAIRS = pa.schema(
    [
        pa.field("persona", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("chosen", pa.string()),
        pa.field("rejected", pa.string()),
        pa.field("prompt_ids", IDS),
        pa.field("chosen_ids", IDS),  # with the end token, unless cut by length
        pa.field("rejected_ids", IDS),
        pa.field("chosen_finish", pa.string()),  # stop, length
        pa.field("rejected_finish", pa.string()),
        pa.field("first_chosen", pa.bool_()),
        pa.field("prompt_seed", pa.uint64()),
        pa.field("answer_seed", pa.uint64()),  # of the first answer; the second's is one more
        *VERDICT_FIELDS,
    ]
)

# Of pairs that a scoring model judged: a reward model's scores; of a pair ranker, how much better each is, shown first.
SCORED_PAIRS = pa.schema([*PAIRS, pa.field("chosen_score", pa.float64()), pa.field("rejected_score", pa.float64())])

# A prompt of somebody's pairs with an answer of the model's own beside the two given ones, for a judge to rank.
THREE_ANSWERS = pa.schema(
    [
        pa.field("history", pa.string()),
        pa.field("prompt", pa.string()),
        *(pa.field(name, pa.string()) for name in ("new", "given_chosen", "given_rejected")),
        pa.field("prompt_ids", IDS),
        *(pa.field(f"{name}_ids", IDS) for name in ("new", "given_chosen", "given_rejected")),
        *(pa.field(f"{name}_finish", pa.string()) for name in ("new", "given_chosen", "given_rejected")),
        pa.field("answer_seed", pa.uint64()),
    ]
)

# Pairs of the best and the worst of such three: `best` and `worst` are new, chosen or rejected (as given).
RANKED_PAIRS = pa.schema(
    [
        *SCORED_PAIRS,
        pa.field("kept_ids", IDS),  # of the new answer, whatever its rank
        pa.field("best", pa.string()),
        pa.field("worst", pa.string()),
        pa.field("new_equals", pa.string()),  # chosen or rejected, where the new answer is the same text; else null
    ]
)

TRAINED = ("prompt", "prompt_ids", "chosen_ids", "rejected_ids")  # the columns of pairs that training reads

ANSWERS = pa.schema(
    [
        pa.field("prompt", pa.string()),
        pa.field("reference", pa.string()),
        pa.field("role", pa.string()),
        pa.field("temperature", pa.float64()),
        pa.field("answer", pa.string()),
        pa.field("finish", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("seed", pa.uint64()),
    ]
)

VERDICTS = pa.schema([pa.field("prompt", pa.string()), *VERDICT_FIELDS])


def history_of(history: str | None) -> list[dict[str, str]]:
    """The messages before a prompt, as a table of people's own has them in its column `history`."""
    return [] if history is None else [{"role": role, "content": content} for role, content in json.loads(history)]
