"""Writes what the chart has from elsewhere (`make chart`): values.schema.json and the README's table of values.

The types come from chart_values.py, the words from the comments of values.yaml.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from chart_values import Values

CHART = Path(__file__).parent / "selfalign-operator"
BEGIN, END = "<!-- values: `make chart` writes this table -->", "<!-- end of values -->"
KEY = re.compile(r"( *)([\w./-]+):( |$)")
UNUSED = ("title", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields")
Json = dict[str, Any]


def comments(text: str) -> dict[tuple[str, ...], str]:
    """The path of each key of a values.yaml that has a comment right above it, and that comment in one line."""
    found: dict[tuple[str, ...], str] = {}
    above: list[str] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip("# "))
            continue
        if key := KEY.match(line):
            indent = len(key[1])
            path = [*(outer for outer in path if outer[0] < indent), (indent, key[2])]
            if above:
                found[tuple(name for _, name in path)] = " ".join(above)
        above = []
    return found


def at(values: Any, path: tuple[str, ...]) -> Any:
    """The value at a path."""
    for name in path:
        values = values[name]
    return values


def schema(text: str) -> str:
    """values.schema.json: Helm refuses what it does not know."""
    whole = _plain(Values.model_json_schema(by_alias=True))
    del whole["description"]
    for path, words in comments(text).items():
        _property(whole, path)["description"] = words
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **whole}, indent=1) + "\n"


def _plain(part: Any) -> Any:
    """Without what only pydantic and Kubernetes read; a field may be called `title`."""
    if isinstance(part, list):
        return [_plain(each) for each in part]
    if not isinstance(part, dict):
        return part
    named = {"properties", "$defs"} & part.keys()
    kept = {key: value for key, value in part.items() if key not in UNUSED and (key, value) != ("default", None)}
    return {
        key: {name: _plain(inner) for name, inner in value.items()} if key in named else _plain(value)
        for key, value in kept.items()
    }


def _property(whole: Json, path: tuple[str, ...]) -> Json:
    """The schema of the value at a path. A KeyError: chart_values.py does not know the value."""
    here = whole
    for name in path:
        if "$ref" in here:
            here = whole["$defs"][here["$ref"].rpartition("/")[2]]
        here = here["properties"][name]
    return here


def table(text: str) -> str:
    """The values as a Markdown table, in their order."""
    values = yaml.safe_load(text)
    rows = [
        f"| `{'.'.join(path)}` | `{_short(at(values, path))}` | {words} |" for path, words in comments(text).items()
    ]
    return "\n".join(["| value | default | what it is |", "|---|---|---|", *rows])


def _short(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()


def readme(text: str, values: str) -> str:
    """The README with today's table."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table(values)}\n\n{END}{tail}"


def files(chart: Path = CHART) -> Iterator[tuple[Path, str]]:
    """Each file that is written, with what must stand in it."""
    values = (chart / "values.yaml").read_text(encoding="utf-8")
    yield chart / "values.schema.json", schema(values)
    yield chart / "README.md", readme((chart / "README.md").read_text(encoding="utf-8"), values)


def main() -> int:
    """Write them."""
    for path, content in files():
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
