"""A live run, scraped by a real Prometheus: every query of every panel, variable and rule finds what it names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dashboard_queries import Asked, answer, chosen, panels, queries_of, rules, variables
from scraped import NAMESPACE, REAL_RUN, Scraped, scraped_runs

from testbed import prometheus
from testbed.cluster import Cluster

PERSONAS = 600
DASHBOARDS = ("runs", "run")
PANELS = [(name, panel) for name in DASHBOARDS for panel in panels(name)]
QUERIES = [asked for name, panel in PANELS for asked in queries_of(panel, name)]
RULES = list(rules())


@pytest.fixture(scope="module")
def scraped(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    if words := prometheus.required():
        pytest.skip(words)
    with scraped_runs(cluster, tmp_path_factory.mktemp("scraped"), PERSONAS, seconds=1) as scraped:
        yield scraped


@pytest.mark.parametrize("asked", QUERIES, ids=lambda asked: asked.place)
def test_every_query_of_a_panel_has_data(scraped: Scraped, asked: Asked) -> None:
    assert answer(asked, scraped), chosen(asked.expression, scraped)


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


def labels_of(scraped: Scraped, name: str) -> set[str]:
    found = scraped.prometheus.ask("series", **{"match[]": name, "start": scraped.began, "end": scraped.ended})
    assert found, f"there is no series {name}"
    return set[str].intersection(*(set(series) for series in found))
