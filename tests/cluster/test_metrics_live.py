"""A live run, scraped by a real Prometheus: every query of every panel, variable and rule finds what it names."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium
from dashboard_queries import Asked, answer, chosen, dashboard, panels, queries_of, rules, variables
from drawn_panels import draw, page
from scraped import NAMESPACE, REAL_RUN, Scraped, scraped_runs

from testbed import prometheus
from testbed.cluster import Cluster

PICTURES = os.environ.get("SELFALIGN_PICTURES")  # a folder for those of docs/, which show a longer run
PERSONAS, HELD_OUT = (3000, 600) if PICTURES else (600, 100)
SCRAPE_SECONDS = 5 if PICTURES else 1
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_BROWSER = "THE DASHBOARDS WERE NOT DRAWN: there is no chromium here; apt-get install chromium"
DASHBOARDS = ("runs", "run")
PANELS = [(name, panel) for name in DASHBOARDS for panel in panels(name)]
# No peak of a CPU is known, so the run has no such series (tests/unit/test_step_metrics.py has it).
ON_GPUS_ONLY = "run / MFU "
ASKED = [asked for name, panel in PANELS for asked in queries_of(panel, name)]
QUERIES = [asked for asked in ASKED if not asked.place.startswith(ON_GPUS_ONLY)]
RULES = list(rules())


@pytest.fixture(scope="module")
def scraped(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    if words := prometheus.required():
        pytest.skip(words)
    with scraped_runs(cluster, tmp_path_factory.mktemp("scraped"), PERSONAS, HELD_OUT, SCRAPE_SECONDS) as scraped:
        yield scraped


@pytest.mark.parametrize("asked", QUERIES, ids=lambda asked: asked.place)
def test_every_query_of_a_panel_has_data(scraped: Scraped, asked: Asked) -> None:
    points = [point for series in answer(asked, scraped) for point in series.get("values", [series.get("value")])]
    assert any(math.isfinite(float(value)) for _, value in points), chosen(asked.expression, scraped)


def test_only_what_a_gpu_has_is_missing_without_one(scraped: Scraped) -> None:
    (missing,) = (asked for asked in ASKED if asked.place.startswith(ON_GPUS_ONLY))
    assert answer(missing, scraped) == []


@pytest.mark.parametrize("asked", [*QUERIES, *RULES], ids=lambda asked: asked.place)
def test_every_series_and_label_that_is_named_is_there(scraped: Scraped, asked: Asked) -> None:
    found = asked.metrics()
    assert found
    for name, labels in found.items():
        there = labels_of(scraped, name)
        assert labels <= there, f"{name} has {sorted(there)}"
    legends = set(asked.labels)
    assert any(legends <= labels_of(scraped, name) | {"value"} for name in found), legends


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_has_values(scraped: Scraped, name: str) -> None:
    wanted = {"run_namespace": NAMESPACE, "run": REAL_RUN, "recipe": "sao"}
    for selector, label in variables(name):
        query = {"match[]": chosen(selector, scraped), "start": scraped.began, "end": scraped.ended}
        assert wanted[label] in scraped.prometheus.ask(f"label/{label}/values", **query)


def test_prometheus_takes_the_rules_and_evaluates_them(scraped: Scraped) -> None:
    groups = scraped.prometheus.ask("rules")["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(health) == {rule.place for rule in RULES}
    assert set(health.values()) == {"ok"}


def test_the_alerts_name_the_runs_that_need_a_person(scraped: Scraped) -> None:
    alerts = scraped.prometheus.ask("alerts")["alerts"]
    firing = {
        (alert["labels"]["alertname"], alert["labels"].get("run")) for alert in alerts if alert["state"] == "firing"
    }
    assert firing == {("SelfalignLossNotFinite", "diverges")}


def test_series_of_pods_say_run_step_and_attempt(scraped: Scraped) -> None:
    (found,) = answer(
        Asked(
            "",
            "count by (namespace, run, step, attempt, container) (last_over_time(selfalign_train_loss[$__range]))",
            True,
        ),
        scraped,
    )
    assert found["metric"] == {
        "namespace": NAMESPACE,
        "run": REAL_RUN,
        "step": "i1-train",
        "attempt": "1",
        "container": "step",
    }


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_dashboard_can_be_drawn_and_read(scraped: Scraped, name: str, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.fail(NO_BROWSER, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(NO_BROWSER)
    boxes = [
        draw(panel, [answer(asked, scraped) for asked in queries_of(panel)], scraped.began, scraped.ended)
        for panel in panels(name)
    ]
    file = tmp_path / f"{name}.html"
    file.write_text(page(dashboard(name), boxes, f"{NAMESPACE} / {REAL_RUN}" if name == "run" else "all"))
    with chromium(CHROMIUM) as browser:
        browser.show(file, width=1760, height=1200, scheme="light")
        browser.picture(Path(PICTURES or tmp_path) / f"{name}.png")
        assert browser.evaluate("document.querySelectorAll('.panel').length") == len(boxes)
        assert browser.evaluate("document.querySelectorAll('.empty').length") == (1 if name == "run" else 0)  # MFU
        assert browser.evaluate(CUT_OFF) == []


CUT_OFF = """[...document.querySelectorAll('.panel')].filter(panel => panel.scrollHeight > panel.clientHeight + 1
  || panel.scrollWidth > panel.clientWidth + 1).map(panel => panel.querySelector('h3').textContent)"""


def labels_of(scraped: Scraped, name: str) -> set[str]:
    """Labels that some series of this name has: one whose value is empty (the reason of rows) is none to Prometheus."""
    found = scraped.prometheus.ask("series", **{"match[]": name, "start": scraped.began, "end": scraped.ended})
    assert found, f"there is no series {name}"
    return {label for series in found for label in series}
