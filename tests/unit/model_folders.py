"""Model folders for tests: the tiny model with files of it changed, and what accepting a run of it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cases.case import ON_CPU, REPOSITORY, Room
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_jobs.accept.program import examine
from selfalign_jobs.accept.resolve import Resolved

TINY = Path(__file__).parents[2] / "examples/tiny-model/model"
TEMPLATE = (TINY / "chat_template.jinja").read_text()

Change = Callable[[dict[str, Any]], object] | str | bytes | None


def model_folder(folder: Path, changes: Mapping[str, Change]) -> Path:
    """A copy of the tiny model with files changed (JSON, in place), replaced, or taken away (None)."""
    shutil.copytree(TINY, folder)
    for name, change in changes.items():
        file = folder / name
        if change is None:
            file.unlink()
        elif callable(change):
            values = json.loads(file.read_text())
            change(values)
            file.write_text(json.dumps(values))
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(change.encode() if isinstance(change, str) else change)
    return folder


def adds(*contents: str, special: bool = False) -> Callable[[dict[str, Any]], object]:
    """Tokens added to tokenizer.json."""

    def change(tokenizer: dict[str, Any]) -> None:
        first = max(token["id"] for token in tokenizer["added_tokens"]) + 1
        first = max(first, len(tokenizer["model"]["vocab"]))
        for number, content in enumerate(contents):
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            tokenizer["added_tokens"].append({"id": first + number, "content": content, "special": special} | flags)

    return change


def config(**values: Any) -> dict[str, Change]:
    return {"config.json": lambda c: c.update(values)}


def looked_at(tmp_path: Path, changes: dict[str, Change], **spec: Any) -> Resolved:
    """The run of tests/cases with a copy of the tiny model, changed."""
    room = Room(tmp_path / "room")
    folder = model_folder(tmp_path / "model", changes)
    changed = {path.replace("__", "."): value for path, value in spec.items()}
    run = room.run({"model.url": folder.as_uri()} | changed)
    return examine(load_run(run), ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)


def refused(tmp_path: Path, changes: dict[str, Change], **spec: Any) -> str:
    with pytest.raises(ConfigError) as error:
        looked_at(tmp_path, changes, **spec)
    return str(error.value)
