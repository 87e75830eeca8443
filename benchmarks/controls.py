"""The controls of the tiny examples: the same runs with what should help taken away.

A control is a change of an example's spec, with a table or a model that is made for it, often from the example's own finished
run. It is quiet where no held-out figure rises.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "tiny-model" / "build"))

from tables import shuffled

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = EXAMPLES / "tiny-model"
Spec = dict[str, Any]
LONGER = 25  # the head of the blind reward model than that of the other


@dataclass(frozen=True)
class Control:
    """An example without what should help it."""

    example: str
    words: str
    change: Callable[[Path, Path], Spec]  # of the example's finished run, and a folder for what is made


def judge_at_random(_run: Path, _out: Path) -> Spec:
    """Verdicts, or ranks, that say nothing."""
    return {"judge": {"method": "random", "modelName": "self", "verdicts": None}, "auxiliaryModels": []}


def exchanged_preferences(_run: Path, out: Path) -> Spec:
    """Half of the pairs the wrong way round."""
    rows = [json.loads(line) for line in (TINY / "preferences.jsonl").read_text().splitlines()]
    return {"data": {"preferences": {"url": _written(shuffled(rows, 0), out / "preferences.jsonl")}}}


def own_answers(run: Path, out: Path) -> Spec:
    """Demonstrations that the model answered itself in SPIN's run."""
    rows = _rows(run / "iter-1/i1-generate/parts/pairs", "prompt", "rejected")
    said = [{"prompt": row["prompt"], "response": row["rejected"]} for row in rows if row["rejected"]]
    return {"seed": _other_seed(run), "data": {"demonstrations": {"url": _written(said, out / "demonstrations.jsonl")}}}


def own_seeds_and_blind_score(run: Path, out: Path) -> Spec:
    """SynPO's seeds with the model's own answers, and a reward model that reads other words than there are."""
    rows = _rows(run / "iter-1/i1-generate/parts/seed-answers", "prompt", "answer")
    said = [{"prompt": row["prompt"], "response": row["answer"]} for row in rows if row["answer"]]
    return {
        "seed": _other_seed(run),
        "auxiliaryModels": [{"name": "reward", "kind": "RewardModel", "url": blind(out / "reward-model").as_uri()}],
        "data": {"demonstrations": {"url": _written(said, out / "demonstrations.jsonl")}},
    }


def blind(folder: Path) -> Path:
    """The reward model with its words' vectors exchanged, and a longer head, by which scores are as far apart as before.

    A head that points anywhere would not do: what the layers below have learned may order answers by any of its directions.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(TINY / "reward-model", folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    words, head = "model.embed_tokens.weight", "score.weight"
    order = torch.randperm(len(weights[words]), generator=torch.Generator().manual_seed(0))
    weights |= {words: weights[words][order].clone(), head: weights[head] * LONGER}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def same_responders(_run: Path, _out: Path) -> Spec:
    """Who answered says nothing: the stronger and the weaker responder are the model itself."""
    same = (TINY / "model").as_uri()
    return {"auxiliaryModels": [{"name": name, "url": same} for name in ("strong", "weak")]}


def own_teacher(_run: Path, _out: Path) -> Spec:
    """Hardened on what the model answers itself."""
    verifier = {"name": "verifier", "kind": "Classifier", "label": "valid", "url": (TINY / "verifier").as_uri()}
    return {
        "auxiliaryModels": [{"name": "teacher", "url": (TINY / "model").as_uri()}, verifier],
        "generation": {"roles": [{"name": "teach", "temperature": 1, "topP": 1}]},
    }


def _rows(parts: Path, *columns: str) -> list[dict[str, Any]]:
    """The lines of a table of a finished run, in the order of what they were made of."""
    tables = [pq.read_table(part, columns=["_source", *columns]) for part in sorted(parts.glob("*.parquet"))]
    return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["_source"])


def _other_seed(run: Path) -> int:
    """With its own seed the model would give its own answers again."""
    return int(json.loads((run / "plan.json").read_text(encoding="utf-8"))["seed"]) + 1


def _written(rows: Iterable[dict[str, Any]], file: Path) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file.as_uri()


CONTROLS = {
    "sao-random-judge": Control("sao-tiny.yaml", "verdicts drawn at random", judge_at_random),
    "pairs-exchanged": Control("pairs-tiny.yaml", "half of the pairs the wrong way round", exchanged_preferences),
    "almost-same-responders": Control("almost-tiny.yaml", "responders that are the model itself", same_responders),
    "pit-exchanged": Control("pit-tiny.yaml", "half of the preferences the wrong way round", exchanged_preferences),
    "reversegen-own-teacher": Control("reversegen-tiny.yaml", "the model itself for a teacher", own_teacher),
    "spin-own-answers": Control("spin-tiny.yaml", "demonstrations that are own answers", own_answers),
    "selm-random-ranks": Control("selm-tiny.yaml", "ranks drawn at random", judge_at_random),
    "synpo-blind-score": Control("synpo-tiny.yaml", "seeds with own answers, a blind score", own_seeds_and_blind_score),
}
