"""The three kinds of panel that the dashboards are made of, and the frame around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "miclip"
_MAX_POINTS = 500  # of a line, whatever the range

Panel = stat.Panel | timeseries.Panel | heatmap.Panel


@dataclass(frozen=True)
class Query:
    """A query with what its lines are called.

    Attributes:
        expr: PromQL.
        legend: With ``{{label}}`` for values of labels.
    """

    expr: str
    legend: str


def _targets(queries: Sequence[Query], *, instant: bool = False) -> list[prometheus.Dataquery]:
    made = []
    for place, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + place))
        made.append(target.datasource(SOURCE).instant() if instant else target.datasource(SOURCE).range())
    return made


def _steps(*steps: tuple[float | None, str]) -> dashboards.ThresholdsConfig:
    absolute = dashboards.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return absolute.steps([model.Threshold(value=value, color=color) for value, color in steps])


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 4,
    height: int = 4,
    steps: Sequence[tuple[float | None, str]] = ((None, "green"),),
    decimals: int | None = None,
    names: bool = False,
) -> stat.Panel:
    """The newest values, large.

    Args:
        title: Of the panel.
        description: What it shows and what to make of it.
        unit: Grafana's id of the unit.
        *queries: What to show.
        width: Of 24 columns.
        height: In rows of the grid.
        steps: Colours from a value on.
        decimals: Digits after the point; default as the value needs.
        names: Show the legends rather than the values.
    """
    newest = common_builders.ReduceDataOptions().calcs(["lastNotNull"])
    panel = stat.Panel().title(title).description(description).unit(unit).span(width).height(height)
    panel = (
        panel.datasource(SOURCE)
        .targets(_targets(queries, instant=True))
        .reduce_options(newest)
        .thresholds(_steps(*steps))
    )
    mode = common.BigValueTextMode.NAME if names else common.BigValueTextMode.AUTO
    panel = panel.text_mode(mode).graph_mode(common.BigValueGraphMode.NONE)
    return panel if decimals is None else panel.decimals(decimals)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    stacked: bool = False,
    limit: float | None = None,
    top: float | None = None,
) -> timeseries.Panel:
    """Values over time.

    Args:
        title: Of the panel.
        description: What it shows and what to make of it.
        unit: Grafana's id of the unit.
        *queries: What to show.
        width: Of 24 columns.
        stacked: Stack the lines as areas.
        limit: Value from which on something is wrong, drawn as a line.
        top: Upper end of the axis.
    """
    panel = timeseries.Panel().title(title).description(description).unit(unit).span(width).height(8)
    panel = panel.datasource(SOURCE).targets(_targets(queries)).min(0).max_data_points(_MAX_POINTS)
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE)
    panel = panel.legend(legend.placement(common.LegendPlacement.BOTTOM).show_legend(True).calcs(["lastNotNull"]))
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel = panel.tooltip(tooltip.sort(common.SortOrder.DESCENDING)).line_width(1)
    panel = panel.fill_opacity(30 if stacked else 8).show_points(common.VisibilityMode.NEVER)
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if limit is not None:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(_steps((None, "transparent"), (limit, "red"))).thresholds_style(style)
    return panel if top is None else panel.max(top)


def heat(title: str, description: str, unit: str, query: Query, *, width: int = 8) -> heatmap.Panel:
    """How values are spread over time; the query gives the rises of a histogram's buckets, by ``le``."""
    target = _targets([query])[0].format(PromQueryFormat.HEATMAP)
    panel = heatmap.Panel().title(title).description(description).span(width).height(8).datasource(SOURCE)
    panel = panel.targets([target]).max_data_points(100).unit("short").calculate(False)
    panel = panel.y_axis(heatmap.YAxisConfig().unit(unit))
    colours = heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    return panel.color(colours.exponent(0.5)).hide_legend()


def board(
    uid: str, title: str, description: str, rows: Sequence[tuple[str, Sequence[Panel]]], models_of: str = ""
) -> dashboards.Dashboard:
    """A dashboard.

    Args:
        uid: Of the dashboard, and the name of its file.
        title: Of the dashboard.
        description: What it is for.
        rows: Panels under a heading each.
        models_of: Series whose models can be chosen; none leaves the choice out.
    """
    made = dashboards.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    made = made.refresh("30s").time("now-3h", "now").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made = made.with_variable(_source()).with_variable(_choice("namespace", "miclip_build_info"))
    if models_of:
        made = made.with_variable(_choice("model", models_of))
    made = made.link(_others()).annotation(_firing())
    for heading, panels in rows:
        made = made.with_row(dashboards.Row(heading))
        for panel in panels:
            made = made.with_panel(panel)
    return made


def _source() -> dashboards.DatasourceVariable:
    return dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _choice(label: str, series: str) -> dashboards.QueryVariable:
    made = dashboards.QueryVariable(label).label(label.capitalize()).datasource(SOURCE)
    made = made.query(f"label_values({series}, {label})").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.sort(model.VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*")


def _others() -> dashboards.DashboardLink:
    link = dashboards.DashboardLink("miclip").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(False).include_vars(True).keep_time(True)


def _firing() -> dashboards.AnnotationQuery:
    firing = 'max by (alertname) (ALERTS{alertname=~"Miclip.+",alertstate="firing",namespace=~"$namespace"})'
    made = dashboards.AnnotationQuery().name("Alerts that fire").datasource(SOURCE).enable(True).expr(firing)
    return made.icon_color("red")
