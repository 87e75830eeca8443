"""docs/api.md is generated, committed, and names every field, rule and recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reference import reference
from selfalign_api.crd import crd
from selfalign_api.rule_table import RULES
from selfalign_jobs.recipes.base import RECIPES

COMMITTED = Path(__file__).parents[2] / "docs" / "api.md"
PAGE = reference()
SPEC = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
SOURCES = (
    "data.personas",
    "data.prompts",
    "data.demonstrations",
    "data.preferences",
    "data.corpus",
    "data.users",
    "evaluation.prompts",
)
ROW = re.compile(r"^\| \[?`([^`]+)`", re.MULTILINE)
TABLES = re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)


def test_the_committed_page_is_the_generated_one() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == PAGE, "stale: make crd"


def test_every_row_has_as_many_cells_as_its_head() -> None:
    for table in TABLES:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


def test_every_field_of_the_spec_stands_in_it_once() -> None:
    shown = [path.replace("[]", "") for path in ROW.findall(PAGE[: PAGE.index("## Source")])]
    of_a_source = set(ROW.findall(PAGE[PAGE.index("## Source") : PAGE.index("## status")]))
    whole = {path for source in SOURCES for path in (f"{source}.{inner}" for inner in of_a_source)} | set(shown)
    assert len(shown) == len(set(shown))
    assert whole == set(paths(SPEC))


def paths(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{at}{name}"
        yield from paths(inner.get("items", inner), f"{at}{name}.")


def test_every_refusal_stands_in_it() -> None:
    assert [rule.message for rule in RULES if rule.message not in PAGE] == []


def test_what_a_recipe_fills_in_stands_in_it() -> None:
    for recipe in RECIPES:
        assert f"## What {recipe} fills in" in PAGE
    assert "| `training.loss.gamma` | number, ≥ 0 | sao: `3`; synpo: `1.6` |" in PAGE
