"""Model folders for tests: the tiny model with files of it changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
