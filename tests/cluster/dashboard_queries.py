"""Every query of the dashboards and of the rules, as Grafana and Prometheus would ask it, and the names that it uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from scraped import FILES, NAMESPACE, REAL_RUN, RULES, Scraped

STEPS = 240  # points of a curve
SPACED_SECONDS = 20
METRIC = re.compile(r"(?<![$\w])((?:selfalign_|[a-z_]+:)[\w:]+)\s*(?:\{(.*?)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
LABEL = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


@dataclass(frozen=True)
class Asked:
    """A query: where it stands, its PromQL, and the labels that its legend or its texts name."""

    place: str
    expression: str
    instant: bool
    labels: tuple[str, ...] = ()
    spaced: bool = False  # its panel names a least interval: `$__interval` is then the time between two points

    def metrics(self) -> dict[str, set[str]]:
        """Each series that it names, and the labels that it asks of it."""
        grouped = {label for labels in GROUPING.findall(self.expression) for label in re.findall(r"\w+", labels)}
        found: dict[str, set[str]] = {}
        for name, matchers in METRIC.findall(GROUPING.sub("", self.expression)):
            found.setdefault(name, set()).update(MATCHER.findall(matchers), grouped)
        return found


def dashboard(name: str) -> dict[str, Any]:
    """The JSON that the chart carries."""
    found: dict[str, Any] = json.loads((FILES / "dashboards" / f"{name}.json").read_text())
    return found


def panels(name: str) -> Iterator[dict[str, Any]]:
    """Its panels, without rows."""
    yield from (panel for panel in dashboard(name)["panels"] if panel["type"] != "row")


def queries_of(panel: Mapping[str, Any], place: str = "") -> list[Asked]:
    """What a panel asks."""
    return [
        Asked(
            f"{place} / {panel['title']} {target['refId']}",
            target["expr"],
            target["instant"],
            tuple(LABEL.findall(target.get("legendFormat", ""))),
            "interval" in panel,
        )
        for target in panel["targets"]
    ]


def variables(name: str) -> Iterator[tuple[str, str]]:
    """The selector and the label of each choice."""
    for variable in dashboard(name)["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable
            yield found[1], found[2]


def rules() -> Iterator[Asked]:
    """What the rules ask."""
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                texts = json.dumps([rule.get("annotations"), rule.get("labels")])
                place = rule.get("alert") or rule["record"]
                yield Asked(place, rule["expr"], True, tuple(LABEL.findall(texts)))


def chosen(expression: str, scraped: Scraped) -> str:
    """The expression with the variables' values: on "Runs" all, on "Run" the real one."""
    whole, four = f"{round(scraped.ended - scraped.began)}s", f"{4 * scraped.scrape_seconds}s"
    values = {"__rate_interval": four, "__interval": f"{SPACED_SECONDS}s", "__range": whole}
    values |= {"namespace": NAMESPACE, "recipe": ".*", "run": REAL_RUN}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def answer(asked: Asked, scraped: Scraped) -> list[dict[str, Any]]:
    """The series that a panel's query gives: at the end, or over the whole time. Raises RuntimeError where it is none."""
    expression = chosen(asked.expression, scraped)
    if asked.instant:
        found = scraped.prometheus.ask("query", query=expression, time=scraped.ended)
    else:
        step = SPACED_SECONDS if asked.spaced else max(scraped.scrape_seconds, (scraped.ended - scraped.began) / STEPS)
        found = scraped.prometheus.ask(
            "query_range", query=expression, start=scraped.began, end=scraped.ended, step=step
        )
    result: list[dict[str, Any]] = found["result"]
    return result
