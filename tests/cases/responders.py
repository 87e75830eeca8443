"""Responders of ALMoST as people list them: models that answer, those that do not, and demonstrations for whoever is shown some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cases.case import Case, Room
from cases.table_files import lines

TINY = "pvc://selfalign/tiny-model"
PROMPTS = [{"prompt": f"Count these words: {word} cat"} for word in ("dog", "pear", "axe", "lime")]
SHOWN = [{"prompt": f"Give the final word: cat {word}", "response": word} for word in ("dog", "pear", "axe")]
STRONG, INITIAL, WEAK = ({"modelName": name} for name in ("strong", "initial", "weak"))
MODELS = [{"name": name, "url": f"{TINY}/{name}"} for name in ("strong", "weak")]
SCORER = {"name": "reward", "kind": "RewardModel", "url": f"{TINY}/reward-model"}


def with_responders(
    responders: Sequence[dict[str, Any]] = (STRONG, INITIAL, WEAK),
    demonstrations: Iterable[object] | None = None,
    prompts: Iterable[object] = PROMPTS,
    options: dict[str, Any] | None = None,
    **spec: Any,
) -> Callable[[Room], Path]:
    """A run with these responders."""

    def write(room: Room) -> Path:
        data: dict[str, Any] = {"prompts": {"url": room.data("prompts.jsonl", lines(prompts))}}
        if demonstrations is not None:
            data["demonstrations"] = {"url": room.data("demonstrations.jsonl", lines(demonstrations))}
        return room.run(
            {
                "recipe": "almost",
                "auxiliaryModels": MODELS,
                "data": data,
                "generation": {"precision": "float32", "roles": [{"name": "respond", "maxTokens": 16}]},
                "almost": {"responders": list(responders)} | (options or {}),
                "iterations": None,
                "judge": None,
                "training": None,
                "evaluation": {"when": "Never"},
            }
            | spec
        )

    return write


def refused(name: str, *says: str, **given: Any) -> Case:
    """A run that is refused in these words."""
    return Case(name, with_responders(**given), code=64, says=says)


def vanilla(room: Room, **spec: Any) -> Path:
    """The strong one as a vanilla model: its folder has no chat template."""
    url = room.model({"chat_template.jinja": None}, of="strong")
    models = [{"name": "strong", "url": url}, MODELS[1]]
    return with_responders([STRONG | {"shots": 2}, INITIAL, WEAK], SHOWN, auxiliaryModels=models, **spec)(room)


def own_vanilla(room: Room) -> Path:
    """The run's own model as one."""
    changed: dict[str, Any] = {"model.url": room.model({"chat_template.jinja": None})}
    return with_responders(**changed)(room)


CASES = [
    Case("three responders, the strongest first", with_responders()),
    Case(
        "one model with more and with fewer demonstrations",
        with_responders([INITIAL | {"shots": 2}, INITIAL], SHOWN, auxiliaryModels=None),
    ),
    Case(
        "demonstrations drawn for each prompt",
        with_responders([STRONG | {"shots": 3, "demonstrations": "Any"}, INITIAL, WEAK], SHOWN),
    ),
    Case("a responder without a chat template", vanilla),
    Case(
        "a judge without a chat template",
        lambda room: vanilla(
            room, judge={"modelName": "strong"}, evaluation={"prompts": {"url": room.lines("h.jsonl", PROMPTS)}}
        ),
        code=64,
        says=("auxiliaryModels[strong].url", "has no chat template"),
    ),
    Case(
        "a model of one's own without a chat template",
        own_vanilla,
        code=64,
        says=("model.url", "write model.chatTemplateUrl"),
    ),
    refused("one responder", "almost.responders", responders=[STRONG]),
    refused("no responders", "recipe almost needs its responders", almost=None, auxiliaryModels=None),
    refused(
        "a responder that is not there",
        "names a model that does not answer here",
        responders=[{"modelName": "large"}, INITIAL],
    ),
    refused(
        "the newest weights as a responder",
        "did you mean strong or weak?",
        responders=[{"modelName": "self"}, STRONG, WEAK],
    ),
    refused(
        "a reward model as a responder",
        "names a model that does not answer here",
        responders=[{"modelName": "reward"}, INITIAL],
        auxiliaryModels=[SCORER],
    ),
    refused(
        "one responder twice", "responders[2]: strong is the same as responders[0]", responders=[STRONG, WEAK, STRONG]
    ),
    refused(
        "a helper that does not answer",
        "nothing of this run uses it",
        responders=[STRONG, INITIAL],
    ),
    refused(
        "shots without demonstrations",
        "responders[0].shots: 2: are taken from data.demonstrations, which is not there",
        responders=[STRONG | {"shots": 2}, INITIAL, WEAK],
    ),
    refused("demonstrations that nobody is shown", "is shown to nobody: no responder has shots", demonstrations=SHOWN),
    refused(
        "fewer demonstrations than a responder is shown",
        "has 3 rows that begin a conversation, and a responder is shown 4",
        responders=[STRONG | {"shots": 4}, INITIAL, WEAK],
        demonstrations=SHOWN,
    ),
    refused(
        "demonstrations without answers",
        "data.demonstrations",
        "response",
        responders=[STRONG | {"shots": 1}, INITIAL, WEAK],
        demonstrations=[{"prompt": row["prompt"]} for row in SHOWN],
    ),
    refused("no prompts", "recipe almost needs data.prompts.url", data=None),
    refused("prompts without a column of prompts", "data.prompts", "prompt", prompts=[{"question": "which?"}] * 4),
    refused(
        "fewer prompts than are set apart for evaluation",
        "501 rows are needed and there are 4",
        evaluation={"checks": [{"name": "win", "type": "SelfWinRate"}]},
    ),
    refused("two iterations", "ALMoST is one pass", iterations=2),
    refused("answers that are all the same", "equal at temperature 0", **{"generation.roles[respond].temperature": 0}),
    refused(
        "a pool that answers nothing",
        "poolModelName: initial names no responder",
        responders=[STRONG, WEAK],
        options={"poolModelName": "initial"},
    ),
    refused("the best of one", "bestOf", options={"bestOf": 1}),
    refused("a finish that is not built", "finish", "SampleRankDPO", options={"finish": "PPO"}),
    refused(
        "a loss of pairs where single answers are learned",
        "is of pairs, and almost fine-tunes",
        training={"loss": {"type": "dpo"}},
    ),
    refused(
        "a loss of single answers where pairs are learned",
        "sft learns one answer to a prompt",
        training={"loss": {"type": "sft"}},
        options={"finish": "SampleRankDPO"},
    ),
    refused(
        "a stage of another recipe",
        "recipe almost has the further trainings rewardModel",
        training={"stages": [{"name": "improver", "epochs": 1}]},
    ),
    refused(
        "rewards whose conversations would be cut",
        "would cut the end that a reward is read at",
        training={"overlong": "Truncate"},
    ),
]
