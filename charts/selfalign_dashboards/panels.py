"""The few kinds of panels that the dashboards are made of, all with a description, a unit and the data source variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "selfalign"
WIDTH = 24  # of Grafana's grid


@dataclass(frozen=True)
class Query:
    """One PromQL expression. `legend`: `{{label}}` is the label's value."""

    expression: str
    legend: str = ""
    instant: bool = False  # one value at the end of the range, which `$__range` then covers


def timeseries_panel(
    title: str,
    words: str,
    unit: str,
    *queries: Query,
    span: int = 8,
    stacked: bool = False,
    bars: bool = False,
    least: float | None = 0,
    most: float | None = None,
    line: float | None = None,
    colours: Mapping[str, str] | None = None,
    interval: str | None = None,
) -> timeseries.Panel:
    """Curves over time. `line`: a level to compare them with; `colours`: of curves by their legend; `interval`: the least."""
    panel = timeseries.Panel().title(title).description(words).unit(unit).datasource(SOURCE).span(span).height(8)
    panel.legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    panel.fill_opacity(60 if bars else 25 if stacked else 8).line_width(1)
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if bars:
        panel.draw_style(GraphDrawStyle.BARS)
    if line is not None:
        panel.thresholds(_levels([("transparent", None), ("orange", line)]))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE))
    for legend, colour in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(legend, [DynamicConfigValue(id_val="color", value=fixed)])
    if interval is not None:
        panel.interval(interval)
    return panel.targets(_targets(queries))


def stat_panel(
    title: str,
    words: str,
    unit: str,
    query: Query,
    *,
    span: int = 4,
    levels: Sequence[tuple[str, float | None]] = (("blue", None),),
    names: bool = False,
) -> stat.Panel:
    """The last value, large; with `names` the series' names instead. `levels`: colours, and from which value each counts."""
    panel = stat.Panel().title(title).description(words).unit(unit).datasource(SOURCE).span(span).height(4)
    panel.graph_mode(BigValueGraphMode.NONE if query.instant else BigValueGraphMode.AREA)
    panel.color_mode(BigValueColorMode.VALUE).thresholds(_levels(levels)).no_value("–")
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if names:
        panel.text_mode(BigValueTextMode.NAME)
    return panel.targets(_targets([query]))


def bars_panel(
    title: str,
    words: str,
    unit: str,
    *queries: Query,
    span: int = 8,
    most: float | None = None,
    levels: Sequence[tuple[str, float | None]] = (("blue", None),),
) -> bargauge.Panel:
    """The last value of each series, a bar each."""
    panel = bargauge.Panel().title(title).description(words).unit(unit).datasource(SOURCE).span(span).height(8)
    panel.display_mode(BarGaugeDisplayMode.BASIC).orientation(VizOrientation.HORIZONTAL).min(0).no_value("–")
    panel.thresholds(_levels(levels)).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if most is not None:
        panel.max(most)
    return panel.targets(_targets(queries))


def table_panel(
    title: str,
    words: str,
    query: Query,
    columns: Mapping[str, str],
    *,
    span: int = 12,
    height: int = 8,
    link: tuple[str, str] | None = None,
) -> table.Panel:
    """The series of an instant query, a row each: `columns` has their labels and titles. `link`: the column that leads to a URL."""
    panel = table.Panel().title(title).description(words).datasource(SOURCE).span(span).height(height)
    panel.with_transformation(DataTransformerConfig(id_val="labelsToFields", options={"mode": "columns"}))
    order = {name: place for place, name in enumerate(columns)}
    options = {
        "includeByName": dict.fromkeys(columns, True),
        "indexByName": order,
        "renameByName": dict(columns),
    }
    panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))
    if link is not None:
        url = [{"title": "Open", "url": link[1]}]
        panel.override_by_name(link[0], [DynamicConfigValue(id_val="links", value=url)])
    return panel.with_target(_target(query, 0).format(PromQueryFormat.TABLE))


def matrix_panel(title: str, words: str, query: Query, row: str, column: str, *, span: int = 12) -> table.Panel:
    """An instant query as a table: one label gives the rows, another the columns."""
    panel = table.Panel().title(title).description(words).unit("short").decimals(3).datasource(SOURCE)
    panel.span(span).height(8)
    options = {"rowField": row, "columnField": column, "valueField": "Value"}
    panel.with_transformation(DataTransformerConfig(id_val="groupingToMatrix", options=options))
    return panel.with_target(_target(query, 0).format(PromQueryFormat.TABLE))


def a_dashboard(uid: str, title: str, words: str, hours: int) -> dashboard.Dashboard:
    """An empty dashboard over the last `hours`, with the data source variable and links to its sisters."""
    board = dashboard.Dashboard(title).uid(uid).description(words).tags([TAG]).readonly()
    board.time(f"now-{hours}h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    links = dashboard.DashboardLink("selfalign").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    board.link(links)
    return board.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))


def label_variable(name: str, title: str, metric: str, label: str, *, several: bool) -> dashboard.QueryVariable:
    """A choice of the values that a label has; `several`: of any number of them, all at first."""
    variable = dashboard.QueryVariable(name).label(title).datasource(SOURCE)
    variable.query({"query": f"label_values({metric}, {label})", "refId": name})
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    if several:
        variable.multi(True).include_all(True).all_value(".*")
    return variable


def _levels(levels: Sequence[tuple[str, float | None]]) -> dashboard.ThresholdsConfig:
    steps = [Threshold(color=color, value=value) for color, value in levels]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _targets(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [_target(query, place) for place, query in enumerate(queries)]


def _target(query: Query, place: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(chr(ord("A") + place)).datasource(SOURCE)
    if query.legend:
        target.legend_format(query.legend)
    return target.instant() if query.instant else target.range()


__all__ = [
    "Query", "a_dashboard", "bars_panel", "label_variable", "matrix_panel", "stat_panel",
    "table_panel", "timeseries_panel",
]  # fmt: skip
