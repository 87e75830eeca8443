"""The tables of defaults in docs/recipes.md, from the recipe files: `make crd` writes them, a test fails when one is stale."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfalign_jobs.local.show_recipes import recipes_json
from selfalign_jobs.recipes.base import RECIPES

MARK = "<!-- what {name} fills in; generated: make crd -->\n"
END = "<!-- end -->\n"
KEYS = ("name", "fromIteration")  # by which the entries of a list are told apart
LONGEST = 60  # characters in a cell; a longer value stands in api.md


def with_tables(page: str) -> str:
    """The page with each recipe's table written anew. Raises ValueError where a recipe's marks are missing."""
    for name in RECIPES:
        head, mark, rest = page.partition(MARK.format(name=name))
        _, end, tail = rest.partition(END)
        if not mark or not end:
            raise ValueError(f"docs/recipes.md has no table of {name}: write {mark or MARK.format(name=name)}{END}")
        page = f"{head}{mark}\n{table_of(name)}\n{end}{tail}"
    return page


def table_of(name: str) -> str:
    """Its values for fields left out, a row a field."""
    (found,) = (document for document in recipes_json() if document["name"] == name)
    rows = [f"| `{path}` | {_cell(name, value)} |" for path, value in _rows("", found["defaults"])]
    return "\n".join(["| field left out | value |", "|---|---|", *rows, ""])


def _rows(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _rows(f"{path}.{key}".lstrip("."), inner)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for entry in value:
            named = next(key for key in KEYS if key in entry)
            yield from _rows(f"{path}[{entry[named]}]", {key: inner for key, inner in entry.items() if key != named})
    else:
        yield path, value


def _cell(name: str, value: Any) -> str:
    text = re.sub(r"e-0(\d)", r"e-\1", json.dumps(value, ensure_ascii=False).replace('"', "")).replace("|", "\\|")
    return f"`{text}`" if len(text) <= LONGEST else f"[a text](api.md#what-{name}-fills-in)"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
