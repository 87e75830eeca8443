"""What is said of the recipes: `selfalign recipes`, docs/recipes.md, and which data the rules let each of them read."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from recipe_tables import with_tables
from selfalign_api.errors import ConfigError
from selfalign_api.method import Data, Source
from selfalign_api.rules import check_rules
from selfalign_jobs.local.cli import main
from selfalign_jobs.local.show_recipes import a_run
from selfalign_jobs.recipes.base import RECIPES, recipe

COMMITTED = Path(__file__).parents[2] / "docs" / "recipes.md"
KINDS = tuple(Data.model_fields)


def test_the_committed_tables_are_the_generated_ones() -> None:
    page = COMMITTED.read_text(encoding="utf-8")
    assert page == with_tables(page), "stale: make crd"


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_has_a_section_that_names_its_paper_and_its_data(name: str) -> None:
    section = COMMITTED.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    found = recipe(name)
    assert found.paper in section
    assert [kind for kind in found.data if f"data.{kind}" not in section] == []


def test_the_command_lists_each_with_paper_data_and_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert main(["recipes", "-o", "json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert [document["name"] for document in documents] == list(RECIPES)
    for document in documents:
        assert document["name"] in shown
        assert document["trainings"]
        assert set(document["data"]) <= set(KINDS)
        assert document["defaults"] == recipe(document["name"]).defaults_for({})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_the_rules_take_the_data_that_a_recipe_reads_and_no_other(name: str, kind: str) -> None:
    found = recipe(name)
    run = a_run(found)
    others = dict.fromkeys(found.either) if kind in found.either else {}
    data = (run.spec.data or Data()).model_copy(update=others | {kind: Source(url="file:///data/rows.jsonl")})
    given = run.model_copy(update={"spec": run.spec.model_copy(update={"data": data})})
    if kind in found.data:
        check_rules(given)
    else:
        with pytest.raises(ConfigError, match=kind):
            check_rules(given)


@pytest.mark.parametrize("name", RECIPES)
def test_the_rules_ask_for_the_data_that_a_recipe_needs(name: str) -> None:
    run, found = a_run(recipe(name)), recipe(name)
    check_rules(run)
    for kind in (kind for kind, needed in found.data.items() if needed or kind in found.either[:1]):
        assert run.spec.data is not None
        data = run.spec.data.model_copy(update={kind: None})
        with pytest.raises(ConfigError, match=kind):
            check_rules(run.model_copy(update={"spec": run.spec.model_copy(update={"data": data})}))


@pytest.mark.parametrize("name", RECIPES)
def test_who_changes_a_recipes_defaults_changes_nobody_elses(name: str) -> None:
    """Lists and maps within them too."""
    first = recipe(name).defaults_for({})
    kept = deepcopy(first)
    first["judge"]["criteria"].append("length")
    first["judge"]["tieMargin"] = 0.4
    first["generation"]["roles"][-1]["temperature"] = 9
    first["training"]["loss"]["beta"] = -1
    assert recipe(name).defaults_for({}) == kept
