"""The dashboards that the chart carries are those that are written in charts/selfalign_dashboards, and whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfalign_dashboards.__main__ import dashboards

FOLDER = Path(__file__).parents[2] / "charts" / "selfalign-operator" / "files" / "dashboards"
WRITTEN = dict(dashboards())


def test_the_committed_dashboards_are_those_of_the_code() -> None:
    committed = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.json")}
    assert committed == WRITTEN, "make dashboards"


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(WRITTEN[name])["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_every_panel_says_what_it_shows_and_asks_the_chosen_data_source(name: str) -> None:
    for panel in panels(name):
        assert panel["description"].endswith("."), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_titles_and_numbers_of_panels_are_distinct(name: str) -> None:
    shown = panels(name)
    assert len({panel["id"] for panel in shown}) == len(shown)
    assert len({(panel["title"], panel["gridPos"]["y"]) for panel in shown}) == len(shown)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_panels_lie_beside_one_another_without_gap_or_overlap(name: str) -> None:
    cells = set()
    for panel in json.loads(WRITTEN[name])["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & own, panel["title"]
        cells |= own
    assert len(cells) == 24 * (max(y for _, y in cells) + 1)


def test_trainings_verdicts_and_funnels_of_several_steps_are_told_apart() -> None:
    asked = [
        (panel["title"], target["expr"], target.get("legendFormat", ""))
        for panel in panels("run.json")
        for target in panel["targets"]
    ]
    of_steps = [
        (title, expression, legend)
        for title, expression, legend in asked
        if "selfalign_train_" in expression or "selfalign_verdict" in expression or title == "Funnel"
    ]
    assert len(of_steps) >= 10
    assert [
        title for title, expression, legend in of_steps if "by (step" not in expression or "{{step}}" not in legend
    ] == []
