"""A dashboard drawn without Grafana: its JSON's grid, kinds of panels and units, with the answers of a real Prometheus.

For the pictures in docs/, and to see that a person can read it. Text and colours are of Grafana's light theme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from selfalign_jobs.report.chart import element
from selfalign_jobs.report.scale import axis, duration, number
from selfalign_jobs.step.second_look import percent

COLUMN, ROW, GAP = 64, 30, 8  # of the grid, pixels
COLOURS = ("#56a64b", "#f2cc0c", "#3274d9", "#e02f44", "#a352cc", "#ff780a", "#37872d", "#8ab8ff", "#b877d9", "#705da0")
NAMED = {
    "blue": "#3274d9",
    "green": "#56a64b",
    "yellow": "#f2cc0c",
    "orange": "#ff780a",
    "dark-orange": "#c45500",
    "red": "#e02f44",
    "purple": "#a352cc",
}
LETTER = 6.2  # about the width of one
Json = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """A curve: its legend, and (seconds, value) of each point; not a number where there is none."""

    legend: str
    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        """The newest value."""
        return next((value for _, value in reversed(self.points) if math.isfinite(value)), math.nan)


def series_of(target: Json, answers: Sequence[Json]) -> list[Series]:
    """What a target's answer shows."""
    found = []
    for each in answers:
        labels = each["metric"]
        legend = re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), target.get("legendFormat", ""))  # noqa: B023
        values = each.get("values") or [each["value"]]
        found.append(Series(legend.strip() or "value", labels, [(float(at), float(value)) for at, value in values]))
    return found


def unit_of(panel: Json) -> Callable[[float], str]:
    """How the panel writes its numbers."""
    kind = panel["fieldConfig"]["defaults"].get("unit", "short")
    words: dict[str, Callable[[float], str]] = {
        "percentunit": percent,
        "s": _seconds,
        "h": lambda value: f"{number(value)} h",
        "cps": lambda value: f"{number(value)}/s",
        "reqps": lambda value: f"{number(value)} req/s",
        "sci": lambda value: f"{value:.1e}",
        "short": number,
    }
    return lambda value: words[kind](value) if math.isfinite(value) else "–"


def _seconds(value: float) -> str:
    return f"{number(value * 1000)} ms" if 0 < value < 1 else duration(value)


def draw(panel: Json, answers: Sequence[Sequence[Json]], began: float, ended: float) -> Markup:
    """The panel's box: `answers` has the result of each target."""
    place = panel["gridPos"]
    shown = [one for target, found in zip(panel["targets"], answers, strict=True) for one in series_of(target, found)]
    width = place["w"] * COLUMN + (place["w"] - 1) * GAP - 20
    height = place["h"] * ROW + (place["h"] - 1) * GAP - 40
    drawn = {"timeseries": _curves, "stat": _stat, "bargauge": _bars, "table": _table}[panel["type"]]
    inside = drawn(panel, shown, width, height, began, ended) if shown else Markup('<p class="empty">No data</p>')
    title = Markup('<h3 title="{}">{}</h3>').format(panel["description"], panel["title"])
    return Markup('<section class="panel" style="{}">{}{}</section>').format(_area(place), title, inside)


def page(dashboard: Json, boxes: Sequence[Markup], chosen: str) -> str:
    """The whole page: rows of the JSON as headings among the panels."""
    rows = [
        Markup('<h2 style="{}">{}</h2>').format(_area(panel["gridPos"]), panel["title"])
        for panel in dashboard["panels"]
        if panel["type"] == "row"
    ]
    head = Markup("<h1>{} <small>{}</small></h1>").format(dashboard["title"], chosen)
    body = Markup("{}<main>{}</main>").format(head, Markup("").join([*rows, *boxes]))
    return Markup('<!doctype html><html lang="en"><meta charset="utf-8"><title>{}</title><style>{}</style>{}').format(
        dashboard["title"], Markup(STYLE), body
    )


def _area(place: Json) -> str:
    return f"grid-area:{place['y'] + 1}/{place['x'] + 1}/span {place['h']}/span {place['w']}"


# --- kinds of panels ----------------------------------------------------------------------------------------------------


def _curves(panel: Json, shown: list[Series], width: int, height: int, began: float, ended: float) -> Markup:
    defaults, write = panel["fieldConfig"]["defaults"], unit_of(panel)
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    levels = [step["value"] for step in defaults.get("thresholds", {}).get("steps", ()) if step["value"] is not None]
    curves = _stack(shown) if stacked else [one.points for one in shown]
    values = [value for points in curves for _, value in points]
    y = axis("", values, floor=defaults.get("min"), ceiling=defaults.get("max", max(levels, default=None)))
    marks: list[Markup] = []
    left = 12 + max(LETTER * len(write(tick)) for tick in y.ticks)
    right, top, bottom = width - 8.0, 8.0, height - 44.0

    def at(seconds: float) -> float:
        return left + (seconds - began) / (ended - began) * (right - left)

    for tick in y.ticks:
        level = y.place(tick, bottom, top)
        marks.append(element("line", class_="grid", x1=left, x2=right, y1=level, y2=level))
        marks.append(element("text", write(tick), x=left - 6, y=level + 4, text_anchor="end"))
    for seconds in _times(began, ended, int((right - left) // 90)):
        words = datetime.fromtimestamp(seconds, UTC).strftime("%H:%M" if ended - began > 300 else "%H:%M:%S")
        marks.append(element("line", class_="grid", x1=at(seconds), x2=at(seconds), y1=top, y2=bottom))
        marks.append(element("text", words, x=at(seconds), y=bottom + 16, text_anchor="middle"))
    colours = _curve_colours(panel, shown)
    pairs = list(zip(curves, colours, strict=True))
    if custom.get("drawStyle") == "bars":
        marks += _columns(pairs, at, lambda value: y.place(value, bottom, top))
        pairs = []
    for points, colour in reversed(pairs) if stacked else pairs:
        for run in _whole(points, (ended - began) / 60):
            path = "M" + "L".join(f"{at(t):.1f} {y.place(v, bottom, top):.1f}" for t, v in run)
            if stacked or custom.get("fillOpacity", 0) >= 20:
                base = y.place(max(0.0, y.low), bottom, top)
                area = f"{path}L{at(run[-1][0]):.1f} {base:.1f}L{at(run[0][0]):.1f} {base:.1f}Z"
                marks.append(element("path", d=area, fill="#fff"))  # those above it are drawn first
                marks.append(element("path", d=area, fill=colour, fill_opacity=0.35))
            kind = {"stroke_linecap": "round", "stroke_width": 4 if len(run) == 1 else 1.6}
            marks.append(element("path", d=path + ("h0" if len(run) == 1 else ""), fill="none", stroke=colour, **kind))
    for level in levels:
        line = y.place(level, bottom, top)
        marks.append(element("line", class_="level", x1=left, x2=right, y1=line, y2=line))
    keys = [
        Markup('<span style="--key:{}">{}</span>').format(colour, one.legend)
        for one, colour in zip(shown, colours, strict=True)
    ]
    picture = element("svg", *marks, viewBox=f"0 0 {width} {height - 22}", width=width, height=height - 22)
    return Markup('{}<p class="legend">{}</p>').format(picture, Markup("").join(keys))


def _curve_colours(panel: Json, shown: list[Series]) -> list[str]:
    """That of an override by the curve's name, else the next of the palette."""
    fixed = {
        override["matcher"]["options"]: NAMED[each["value"]["fixedColor"]]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "color"
    }
    return [fixed.get(one.legend, COLOURS[place % len(COLOURS)]) for place, one in enumerate(shown)]


def _columns(
    pairs: list[tuple[list[tuple[float, float]], str]], at: Callable[[float], float], up: Callable[[float], float]
) -> list[Markup]:
    """A column for each point, the highest first: curves are stacked."""
    marks = []
    for points, colour in reversed(pairs):
        for seconds, value in points:
            for fill, opacity in (("#fff", 1.0), (colour, 0.6)):
                place = {"x": at(seconds) - 6, "y": up(value), "width": 12, "height": up(0) - up(value)}
                marks.append(element("rect", fill=fill, fill_opacity=opacity, **place))
    return marks


def _stack(shown: list[Series]) -> list[list[tuple[float, float]]]:
    """Each curve on top of those before it."""
    base: dict[float, float] = {}
    stacked = []
    for one in shown:
        points = [(at, base.get(at, 0.0) + value) for at, value in one.points]
        base.update(points)
        stacked.append(points)
    return stacked


def _whole(points: list[tuple[float, float]], gap: float) -> list[list[tuple[float, float]]]:
    """The stretches of a curve that no gap and no missing value interrupts."""
    runs: list[list[tuple[float, float]]] = []
    for at, value in points:
        if not math.isfinite(value):
            continue
        if not runs or at - runs[-1][-1][0] > gap:
            runs.append([])
        runs[-1].append((at, value))
    return runs


def _times(began: float, ended: float, most: int) -> list[float]:
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step = next((step for step in steps if (ended - began) / step <= most), 7200)
    first = math.ceil(began / step) * step
    return [float(seconds) for seconds in range(first, int(ended) + 1, step)]


def _stat(panel: Json, shown: list[Series], width: int, height: int, began: float, ended: float) -> Markup:
    named = panel["options"]["textMode"] == "name"
    words = ", ".join(one.legend for one in shown) if named else unit_of(panel)(shown[0].last)
    colour = _colour(panel, shown[0].last)
    size = min(40, round(1.7 * width / max(len(words), 1)))
    behind = Markup("")
    points = [(at, value) for at, value in shown[0].points if math.isfinite(value)]
    if panel["options"]["graphMode"] == "area" and len(points) > 1:
        low, high = min(v for _, v in points), max(v for _, v in points)
        spread = (high - low) or 1.0
        path = "L".join(
            f"{(at - began) / (ended - began) * width:.1f} {height - 4 - (v - low) / spread * height * 0.4:.1f}"
            for at, v in points
        )
        curve = element("path", d=f"M{path}", fill="none", stroke=colour, stroke_opacity=0.5, stroke_width=1.5)
        behind = element("svg", curve, viewBox=f"0 0 {width} {height}", width=width, height=height, class_="behind")
    return Markup('{}<b class="stat" style="color:{};font-size:{}px">{}</b>').format(behind, colour, size, words)


def _bars(panel: Json, shown: list[Series], width: int, height: int, *_: float) -> Markup:
    write = unit_of(panel)
    shown = sorted(shown, key=lambda one: one.legend)
    most = panel["fieldConfig"]["defaults"].get("max") or max((one.last for one in shown), default=1.0) or 1.0
    rows = [
        Markup('<i>{}</i><u><s style="width:{:.1f}%;background:{}"></s></u><em>{}</em>').format(
            one.legend, min(100.0, 100 * max(0.0, one.last) / most), _colour(panel, one.last), write(one.last)
        )
        for one in shown
    ]
    tall = min(34, height // len(rows))
    style = f"grid-auto-rows:{tall}px;--bar:{round(tall * 0.62)}px;font-size:{min(12, tall - 6)}px"
    return Markup('<div class="bars" style="{}">{}</div>').format(style, Markup("").join(rows))


def _table(panel: Json, shown: list[Series], *_: float) -> Markup:
    transformations = {each["id"]: each["options"] for each in panel["transformations"]}
    if matrix := transformations.get("groupingToMatrix"):
        rows = sorted({one.labels[matrix["rowField"]] for one in shown})
        columns = [c for c in ("low", "value", "high") if any(one.labels[matrix["columnField"]] == c for one in shown)]
        cells = {(one.labels[matrix["rowField"]], one.labels[matrix["columnField"]]): one.last for one in shown}
        head = [f"{matrix['rowField']} \\ {matrix['columnField']}", *columns]
        body = [[row, *(f"{cells.get((row, column), math.nan):.3f}" for column in columns)] for row in rows]
    else:
        order, titles = (transformations["organize"][field] for field in ("indexByName", "renameByName"))
        names = sorted(order, key=order.__getitem__)
        head = [titles[name] for name in names]
        body = sorted([[one.labels.get(name, "") for name in names] for one in shown])
    line = Markup("<tr>{}</tr>")
    headings = line.format(Markup("").join(Markup("<th>{}</th>").format(word) for word in head))
    lines = [line.format(Markup("").join(Markup("<td>{}</td>").format(word) for word in row)) for row in body]
    return Markup("<table>{}{}</table>").format(headings, Markup("").join(lines))


def _colour(panel: Json, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[reached[-1]]


STYLE = f"""
body {{ margin: 0; padding: 14px 16px 24px; background: #f4f5f5; color: #24292e; font: 13px/1.4 "DejaVu Sans", sans-serif;
  width: {24 * COLUMN + 23 * GAP}px; }}
h1 {{ font-size: 20px; margin: 0 0 12px; font-weight: 600; }}
h1 small {{ font-size: 13px; color: #6a7078; font-weight: 400; margin-left: 12px; }}
main {{ display: grid; grid-template-columns: repeat(24, {COLUMN}px); grid-auto-rows: {ROW}px; gap: {GAP}px; }}
h2 {{ font-size: 15px; font-weight: 600; margin: 4px 0 0; }}
.panel {{ background: #fff; border: 1px solid #dfe1e4; border-radius: 3px; padding: 6px 9px; overflow: hidden; position: relative;
  box-sizing: border-box; }}
h3 {{ font-size: 12.5px; font-weight: 600; margin: 0 0 4px; }}
svg {{ display: block; font-size: 10.5px; }}
svg text {{ fill: #6a7078; }}
.grid {{ stroke: #e9ebec; }}
.level {{ stroke: #ff780a; stroke-dasharray: 5 4; stroke-opacity: .8; }}
.legend {{ margin: 0; font-size: 11px; white-space: nowrap; overflow: hidden; }}
.legend span {{ margin-right: 12px; }}
.legend span::before {{ content: ""; display: inline-block; width: 12px; height: 3px; margin-right: 5px; vertical-align: middle;
  background: var(--key); }}
.stat {{ position: absolute; inset: 34px 9px 8px; display: grid; place-items: center; font-weight: 600; white-space: nowrap; }}
.behind {{ position: absolute; left: 9px; bottom: 4px; }}
.bars {{ display: grid; grid-template-columns: max-content 1fr max-content; gap: 0 9px; align-items: center; line-height: 1.2; }}
.bars i, .bars em {{ font-style: normal; white-space: nowrap; }}
.bars u {{ background: #f0f1f2; height: var(--bar); display: block; }}
.bars s {{ display: block; height: 100%; opacity: .85; }}
table {{ border-collapse: collapse; width: 100%; font-size: 12px; }}
th, td {{ text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid #eceeef; }}
th {{ color: #3274d9; font-weight: 600; }}
.empty {{ color: #8e959c; text-align: center; margin-top: 40px; }}
"""
