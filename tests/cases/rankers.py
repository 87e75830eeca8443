"""Preferences to explore (SELM), and who ranks the answers: folders that are no pair ranker, judges that rank no three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cases.case import TINY, Case, Change, Room

NAME = "my-ranker"
FIELD = f"spec.auxiliaryModels[{NAME}].url"
ROWS = [{"prompt": f"Say {word}", "chosen": word, "rejected": "no"} for word in ("dog", "cat", "saw", "axe")]


def exploring(
    room: Room,
    changes: Mapping[str, Any],
    ranker: str | None = None,
    rows: list[dict[str, str]] = ROWS,
) -> Path:
    """A run of SELM on these rows, with the tiny ranker, or with that of this URL."""
    helper = {"name": NAME, "kind": "PairRanker", "url": ranker or (TINY / "ranker").as_uri()}
    return room.run(
        {
            "recipe": "selm",
            "iterations": 2,
            "auxiliaryModels": [helper],
            "data": {"preferences": {"url": room.lines("pairs.jsonl", rows)}},
            "generation": {"precision": "float32", "roles": [{"name": "respond", "maxTokens": 16}]},
            "judge": {"method": "score", "modelName": NAME},
            "training.loss": {"alpha": 0.5},
        }
        | dict(changes)
    )


def taken(name: str, **changes: Any) -> Case:
    """A run that may start."""
    return Case(name, _writer(changes), says=("would run here",))


def refused(name: str, changes: Mapping[str, Any], *says: str) -> Case:
    """A run that is refused in these words."""
    return Case(name, _writer(changes), code=64, says=says)


def no_ranker(name: str, changes: Mapping[str, Change | str | bytes | None], *says: str) -> Case:
    """A folder that is refused where it is named, in these words."""

    def write(room: Room) -> Path:
        return exploring(room, {}, room.model(changes, NAME, of="ranker"))

    return Case(name, write, code=64, says=(FIELD, *says))


def of_rows(name: str, rows: list[dict[str, str]], *says: str, **changes: Any) -> Case:
    """Preferences that are refused in these words."""
    return Case(name, lambda room: exploring(room, changes, rows=rows), code=64, says=says)


def _writer(changes: Mapping[str, Any]) -> Callable[[Room], Path]:
    return lambda room: exploring(room, changes)


def _edited(**values: Any) -> dict[str, Change | str | bytes | None]:
    """config.json with these values; None takes one away."""

    def change(found: dict[str, Any]) -> None:
        found.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del found[name]

    return {"config.json": change}


def _without_tokens(*tokens: str) -> dict[str, Change | str | bytes | None]:
    """A tokenizer to which special tokens were never added."""

    def change(found: dict[str, Any]) -> None:
        found["added_tokens"] = [each for each in found["added_tokens"] if each["content"] not in tokens]

    return {"tokenizer.json": change}


def _held_out(room: Room) -> Path:
    held = {"when": "Last", "prompts": {"url": room.lines("held.jsonl", [{"prompt": row["prompt"]} for row in ROWS])}}
    judge = {"name": "judge", "template": "{{ prompt }}{{ first }}{{ second }}"}
    roles = [{"name": "respond", "maxTokens": 16}, judge]
    return exploring(room, {"evaluation": held, "generation.roles": roles})


def _policy_as_ranker(room: Room) -> Path:
    return exploring(room, {}, room.model({}, NAME))


OFFLINE = {"selm": {"firstIteration": "Offline"}}
JUDGE = {"name": "judge", "maxTokens": 8, "template": "{{ prompt }}{{ first }}{{ second }}"}
ROLES = [{"name": "respond", "maxTokens": 16}, JUDGE]
ITSELF = {"auxiliaryModels": None, "generation.roles": ROLES}

CASES = [
    taken("the tiny ranker"),
    taken("plain DPO first", **OFFLINE),
    taken("the model ranks for itself", **ITSELF, judge=None),
    taken("the model writes its verdicts", **ITSELF, judge={"method": "generate"}),
    taken("ranks that say nothing", **ITSELF, judge={"method": "random"}),
    taken("without optimism", **{"training.loss": {"alpha": 0}}),
    taken("another loss", **{"training.loss": {"type": "ipo"}}),
    # --- folders that are no pair ranker
    no_ranker("a ranker without the prompt's token", _edited(source_prefix_id=None), "has no source_prefix_id"),
    no_ranker("a ranker without the second answer's token", _edited(cand2_prefix_id=None), "has no cand2_prefix_id"),
    no_ranker("a ranker whose token is a word", _edited(cand1_prefix_id=300), "(id 300) is no special token"),
    no_ranker(
        "tokens that were never added", _without_tokens("<|candidate2|>", "<|candidate|>"), "without a token of id 847"
    ),
    no_ranker("no end of a part", _without_tokens("[SEP]"), "without [CLS] or [SEP]"),
    no_ranker("a ranker without a tokenizer", {"tokenizer.json": None}, "no tokenizer"),
    no_ranker("a ranker of another width", _edited(hidden_size=96), "its config.json makes it [96, 192]"),
    no_ranker("a ranker of two tasks", _edited(n_tasks=2), "its config.json makes it [2, 64]"),
    no_ranker("a ranker without weights", {"model.safetensors": None}, "has no *.safetensors"),
    Case("a model that writes as the ranker", _policy_as_ranker, code=64, says=(FIELD, "a PairRanker is a deberta-v2")),
    # --- preferences
    of_rows("fewer preferences than iterations", ROWS[:1], "there are 1", "fewer iterations"),
    of_rows("fewer preferences than parts", ROWS[:2], "there are 2", "fewer iterations", iterations=3),
    of_rows(
        "preferences that prefer nothing", [row | {"rejected": row["chosen"]} for row in ROWS], "chosen equals rejected"
    ),
    of_rows("preferences without the worse answer", [{"prompt": "a", "chosen": "b"}] * 2, "has no column rejected"),
    Case("preferences that are all held out", _held_out, code=64, says=("holds all", "draws from data.preferences")),
    # --- values that do not go together
    refused("one offline iteration", {"iterations": 1} | OFFLINE, "spec.selm.firstIteration", "or recipe: pairs"),
    refused("SAO's own verdict", ITSELF | {"judge": {"method": "paper"}}, "selm ranks three in all orders"),
    refused("a ranker that is to write", {"judge.method": "logprobs"}, "method score needs a model that scores"),
    refused("a ranker by the default method", {"judge": {"modelName": NAME}}, "write judge.method: score"),
    refused(
        "a ranker that nobody asks", {"judge": None}, f"spec.auxiliaryModels[{NAME}]", "nothing of this run uses it"
    ),
    refused(
        "reasoning in own answers alone", {"generation.roles": [ROLES[0] | {"reasoning": "Keep"}]}, "reasoning: Keep"
    ),
    refused("SELM's loss elsewhere", {"recipe": "pairs", "training.loss": {"type": "selm"}}, "write recipe: selm"),
    refused("optimism elsewhere", {"recipe": "pairs"}, "spec.training.loss.alpha", "write recipe: selm"),
    refused("optimism in another loss", {"training.loss": {"type": "dpo", "alpha": 1}}, "write loss.type: selm"),
    refused(
        "SELM's option elsewhere",
        {"recipe": "pairs", "training.loss": None} | OFFLINE,
        "spec.selm belongs to recipe selm",
    ),
    refused("pessimism", {"training.loss": {"alpha": -1}}, "spec.training.loss.alpha"),
]
