"""Seeds and a corpus as people have them: what new prompts are written from, and what gives no words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cases.case import Case, Room
from cases.table_files import lines

SEEDS = [{"prompt": f"Count these words: {word} cat", "response": "2"} for word in ("dog", "pear", "axe", "lime")]
CORPUS = [{"text": f"there are a {word}, a cat and a plum"} for word in ("dog", "pear", "axe", "lime")]
REWARD = "pvc://selfalign/tiny-model/reward-model"


def with_seeds(
    seeds: Iterable[object] = SEEDS, corpus: Iterable[object] | bytes = CORPUS, file: str = "corpus.jsonl", **spec: Any
) -> Callable[[Room], Path]:
    """A run on these seeds and this corpus; rows, or the file as it is."""

    def write(room: Room) -> Path:
        text = corpus if isinstance(corpus, bytes) else lines(corpus)
        role = {"maxTokens": 16}
        return room.run(
            {
                "recipe": "synpo",
                "auxiliaryModels": [{"name": "reward", "kind": "RewardModel", "url": REWARD}],
                "data": {
                    "demonstrations": {"url": room.data("seeds.jsonl", lines(seeds))},
                    "corpus": {"url": room.data(file, text), "count": 4},
                },
                "generation": {
                    "precision": "float32",
                    "roles": [{"name": name} | role for name in ("writePrompt", "respond", "improve")],
                },
                "iterations": 1,
                "judge": {"method": "score", "modelName": "reward"},
                "training": None,
                "evaluation": {"when": "Never"},
            }
            | spec
        )

    return write


def refused(name: str, *says: str, **given: Any) -> Case:
    """A run that is refused in these words."""
    return Case(name, with_seeds(**given), code=64, says=says)


CASES = [
    Case("seeds and a corpus", with_seeds(), reads={"corpus": {"text": [row["text"] for row in CORPUS]}}),
    Case(
        "a corpus of plain text, a paragraph a line",
        with_seeds(corpus="\n".join(row["text"] for row in CORPUS).encode(), file="corpus.txt"),
        reads={"corpus": {"text": [row["text"] for row in CORPUS]}},
    ),
    Case(
        "a corpus whose text stands in another column",
        lambda room: _of_column("content", room),
        reads={"corpus": {"text": [row["text"] for row in CORPUS]}},
    ),
    refused(
        "a corpus of numbers", "data.corpus.url", "no paragraph with 3 usable words", corpus=[{"text": "1 2 3"}] * 4
    ),
    refused(
        "a corpus of names",
        "no paragraph with 3 usable words",
        corpus=[{"text": "There Anna met Bob and Carol in Rome"}] * 4,
    ),
    refused(
        "a corpus of stop words",
        "no paragraph with 3 usable words",
        corpus=[{"text": "these are those and not others"}] * 4,
    ),
    refused("a corpus without a column of texts", "data.corpus", "text", corpus=[{"body": "a dog and a cat"}] * 4),
    refused("fewer paragraphs than iterations use", "4 rows are needed and there are 2", corpus=CORPUS[:2]),
    refused("a corpus with an empty paragraph", "1 of 5 rows have an empty text", corpus=[*CORPUS, {"text": " "}]),
    refused(
        "seeds without answers",
        "data.demonstrations",
        "empty response",
        seeds=[{"prompt": row["prompt"], "response": ""} for row in SEEDS],
    ),
    refused("seeds without a column of answers", "response", seeds=[{"prompt": row["prompt"]} for row in SEEDS]),
    refused(
        "seeds without keywords",
        "no prompt with 2 keywords of its own",
        "write a smaller synpo.seedWords",
        seeds=[{"prompt": f"Which is it: {n} or {n + 1}?", "response": str(n)} for n in range(4)],
    ),
    refused(
        "one seed, which leaves no other for noise",
        "2 keywords of its own and 1 of another's among 1 seeds",
        seeds=SEEDS[:1],
    ),
    refused(
        "fewer seeds than are set apart for evaluation",
        "501 rows are needed and there are 4",
        evaluation={"checks": [{"name": "win", "type": "SelfWinRate"}]},
    ),
    refused(
        "a stage of another recipe",
        "recipe synpo has the further trainings promptGenerator, improver",
        training={"stages": [{"name": "warmUp", "epochs": 1}]},
    ),
    refused(
        "a judge that writes",
        "keeps what a scoring model finds better",
        judge={"modelName": "self"},
        auxiliaryModels=None,
    ),
    refused(
        "an improver that is not shown the draft",
        "roles[improve].template",
        "leaves out draft",
        **{"generation.roles[improve].template": "Better: {{ prompt }}"},
    ),
    refused(
        "a prompt generator that is not shown the keywords",
        "roles[writePrompt].template",
        "leaves out keywords",
        **{"generation.roles[writePrompt].template": "Write a prompt."},
    ),
]


def _of_column(name: str, room: Room) -> Path:
    run = with_seeds(corpus=[{name: row["text"]} for row in CORPUS])(room)
    return room.text(run.read_text().replace("count: 4", f"count: 4\n      columns: {{text: {name}}}"))
