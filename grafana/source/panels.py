"""The kinds of panel that the dashboards are made of, each with one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.source.palette import BAD, GOOD, MUTED, NEUTRAL, NOTICE, WARNING
from grafana.source.queries import Query
from grafana.source.thresholds import FAST_BURN, PLAIN, SLOW_BURN, SUCCESS_OBJECTIVE, Steps, burning

__all__ = [
    "CONNECTED_WORDS",
    "COUNT",
    "DATASOURCE",
    "DAYS",
    "LOGARITHMIC",
    "MIN_INTERVAL",
    "PER_MINUTE",
    "RATIO",
    "SUCCESS_WORDS",
    "TAKEN_WORDS",
    "UP_WORDS",
    "Axis",
    "Column",
    "Frame",
    "Words",
    "bars",
    "cells",
    "heat_map",
    "lines",
    "notes",
    "number",
    "timeline",
]

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

MIN_INTERVAL = "30s"
"""How often the exporter polls and is scraped; ``$__rate_interval`` is four times this at least."""

BRIDGED = 120_000
"""Milliseconds without a value that a line passes over."""

COARSE = 120
"""Bars on a plot: each wide enough to be seen."""

VALUE_SIZE, NAME_SIZE = 34, 14

PER_MINUTE = "suffix: /min"
DAYS = "suffix: days"
COUNT = "locale"
"""All digits."""

NO_DATA = "No data"
NOTHING = "-"


@dataclass(frozen=True)
class Frame:
    """What is around a panel: an id that never changes, as links rest on it; words; a size on a grid of 24 columns."""

    id: int
    title: str
    description: str
    w: int
    h: int


@dataclass(frozen=True)
class Words:
    """What stands for a value, or for a range that begins with it."""

    value: float
    text: str
    color: str
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What an axis shows.

    Args:
        low: Where it begins, unless a value is lower.
        high: Where it ends, unless a value is higher.
        most: Where it ends at the latest.
        logarithmic: It has no 0.
    """

    low: float = 0
    high: float | None = None
    most: float | None = None
    logarithmic: bool = False


FROM_ZERO = Axis()
RATIO = Axis(low=0.9, most=1)
LOGARITHMIC = Axis(logarithmic=True)

TAKEN_WORDS = (Words(0, "Refused", BAD), Words(1, "Taken over", GOOD))
UP_WORDS = (Words(0, "Down", BAD), Words(1, "Up", GOOD))
CONNECTED_WORDS = (Words(0, "Disconnected", WARNING), Words(1, "Connected", GOOD))
SUCCESS_WORDS = (
    # Where two ranges meet, the first one decides.
    Words(SUCCESS_OBJECTIVE, "Good", GOOD, 1.0),
    Words(burning(SLOW_BURN), "Below objective", NOTICE, SUCCESS_OBJECTIVE),
    Words(burning(FAST_BURN), "Poor", WARNING, burning(SLOW_BURN)),
    Words(0, "Failing", BAD, burning(FAST_BURN)),
)
"""What stands for a success ratio, by the numbers that colour it."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Args:
        title: Its heading.
        label: The label it shows, where it shows no value.
        expr: The value it shows. All expressions of a table have the same labels.
        unit: Of the value.
        decimals: Of the value.
        steps: What colours it.
        words: What stands for it.
        link: Where a click leads.
        width: In pixels.
        empty: What stands for no value.
    """

    title: str
    label: str = ""
    expr: str = ""
    unit: str = COUNT
    decimals: int | None = None
    steps: Steps | None = None
    words: Sequence[Words] = ()
    link: str = ""
    width: int | None = None
    empty: str = NOTHING


class Framed(Protocol):
    """What the builders of all panels have in common."""

    def id(self, id_val: int) -> Self:
        """Set the id."""

    def title(self, title: str) -> Self:
        """Set the title."""

    def description(self, description: str) -> Self:
        """Set the description."""

    def datasource(self, datasource: common.DataSourceRef) -> Self:
        """Set the data source."""

    def interval(self, interval: str) -> Self:
        """Set the least interval between two values."""

    def grid_pos(self, grid_pos: dashboard.GridPos) -> Self:
        """Set the size and the place."""

    def with_target(self, target: Builder[Any]) -> Self:
        """Add a query."""


PanelT = TypeVar("PanelT", bound=Framed)


def number(
    frame: Frame,
    *values: str | Query,
    unit: str = COUNT,
    decimals: int | None = None,
    steps: Steps = PLAIN,
    each: Mapping[str, Steps] | None = None,
    words: Sequence[Words] = (),
    text_mode: common.BigValueTextMode = common.BigValueTextMode.VALUE,
    no_value: tuple[str, str] = (NO_DATA, MUTED),
    link: str = "",
) -> dashboard.Panel:
    """Values of now.

    Args:
        frame: Around them.
        values: A single one, or several with names.
        unit: Of the values.
        decimals: Of the values.
        steps: What colours them; what is coloured all over is a verdict.
        each: What colours those of some names.
        words: What stands for them.
        text_mode: Whether the value is shown, or its name, or both.
        no_value: What stands for no value, and its colour: that of the first step would be a verdict.
        link: Where a click leads.
    """
    queries = [value if isinstance(value, Query) else Query(value) for value in values]
    panel = _framed(stat.Panel(), frame, *queries, instant=True)
    panel.unit(unit).no_value(no_value[0]).mappings([*_mappings(words), _nothing(*no_value)])
    panel.thresholds(_thresholds(steps)).color_scheme(_by_thresholds())
    panel.color_mode(common.BigValueColorMode.VALUE if steps == PLAIN else common.BigValueColorMode.BACKGROUND)
    panel.graph_mode(common.BigValueGraphMode.NONE).justify_mode(common.BigValueJustifyMode.CENTER)
    panel.text_mode(text_mode).text(parts.VizTextDisplayOptions().value_size(VALUE_SIZE).title_size(NAME_SIZE))
    panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]))
    if decimals is not None:
        panel.decimals(decimals)
    for name, own in (each or {}).items():
        panel.override_by_name(name, [dashboard.DynamicConfigValue("thresholds", _thresholds(own).build())])
    if link:
        panel.data_links([_link("Open", link)])
    return panel.build()


def lines(
    frame: Frame,
    *queries: Query,
    unit: str,
    colors: Mapping[str, str] | None = None,
    limits: Steps = (),
    stacked: bool = False,
    held: bool = False,
    axis: Axis = FROM_ZERO,
    calcs: Sequence[str] = (),
    link: str = "",
    no_value: str = NO_DATA,
) -> dashboard.Panel:
    """Values over time.

    Args:
        frame: Around it.
        queries: The values.
        unit: Of the values.
        colors: Of the series, by name or ``/regular expression/``; None: all are shades of one.
        limits: Dashed lines where a value turns from good to bad.
        stacked: Add the series up.
        held: A value holds until the next one.
        axis: Of the values.
        calcs: What the legend tells of each series.
        link: Where a click on a series leads.
        no_value: What stands for no value.
    """
    panel = _plotted(frame, queries, unit, colors, calcs, no_value)
    panel.line_width(1).fill_opacity(50 if stacked else 0)
    if axis.logarithmic:
        panel.scale_distribution(parts.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10))
    else:
        panel.axis_soft_min(axis.low)
    if stacked:
        panel.stacking(_stacking()).max_data_points(COARSE)
    else:
        panel.span_nulls(BRIDGED)
    if held:
        panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    if limits:
        dashed = parts.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(limits)).thresholds_style(dashed)
    if axis.high is not None:
        panel.axis_soft_max(axis.high)
    if axis.most is not None:
        panel.max(axis.most)
    if link:
        panel.data_links([_link("Open ${__field.displayName}", link)])
    return panel.build()


def bars(
    frame: Frame,
    *queries: Query,
    unit: str,
    colors: Mapping[str, str] | None = None,
    calcs: Sequence[str] = (),
    interval: str = MIN_INTERVAL,
    no_value: str = NO_DATA,
) -> dashboard.Panel:
    """How much happened, by kind, one upon the other; ``interval``: of a bar at least."""
    panel = _plotted(frame, queries, unit, colors, calcs, no_value, interval)
    panel.draw_style(common.GraphDrawStyle.BARS).line_width(0).fill_opacity(85).axis_soft_min(0)
    return panel.stacking(_stacking()).max_data_points(COARSE).build()


def heat_map(frame: Frame, query: Query, *, unit: str) -> dashboard.Panel:
    """How a histogram changes over time."""
    color = heatmap.HeatmapColorOptions()
    color.mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).reverse(reverse=False)
    color.scale(heatmaps.HeatmapColorScale.EXPONENTIAL).exponent(0.5).fill("dark-orange")
    panel = _framed(heatmap.Panel(), frame, query, layout=PromQueryFormat.HEATMAP)
    panel.calculate(calculate=False).cell_gap(1).color(color).show_legend()
    panel.filter_values(heatmap.FilterValueRange().le(1e-9)).cell_values(heatmap.CellValues().unit("short"))
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
    panel.tooltip(heatmap.HeatmapTooltip().mode(common.TooltipDisplayMode.SINGLE).y_histogram(y_histogram=True))
    return panel.build()


def timeline(frame: Frame, query: Query, words: Sequence[Words], *, no_value: str = NO_DATA) -> dashboard.Panel:
    """What state each series was in, and when."""
    panel = _framed(statetimeline.Panel(), frame, query).mappings(_mappings(words)).no_value(no_value)
    panel.color_scheme(_by_thresholds()).thresholds(_thresholds(PLAIN)).unit("percentunit")
    panel.merge_values(merge_values=True).show_value(common.VisibilityMode.NEVER).row_height(0.85)
    panel.fill_opacity(80).line_width(0).legend(_legend(()))
    return panel.tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE)).build()


def cells(
    frame: Frame, *columns: Column, sort: str = "", descending: bool = True, no_value: str = NO_DATA
) -> dashboard.Panel:
    """A table of now; the columns come in the order given, the labels they do not show are left out."""
    values = [column for column in columns if column.expr]
    queries = [Query(column.expr) for column in values]
    panel = _framed(table.Panel(), frame, *queries, layout=PromQueryFormat.TABLE, instant=True)
    names = dict(zip(values, _value_names(len(values)), strict=True))
    order = [names.get(column, column.label) for column in columns]
    panel.with_transformation(_transformation("filterFieldsByName", {"include": {"names": order}}))
    panel.with_transformation(_transformation("merge", {}))
    renamed = {name: column.title for name, column in zip(order, columns, strict=True)}
    indices = {name: place for place, name in enumerate(order)}
    panel.with_transformation(
        _transformation("organize", {"excludeByName": {}, "indexByName": indices, "renameByName": renamed})
    )
    for column in columns:
        panel.override_by_name(column.title, _column(column))
    panel.color_scheme(_by_thresholds()).thresholds(_thresholds(PLAIN)).unit("short").no_value(no_value)
    panel.show_header(show_header=True).cell_height(common.TableCellHeight.SM).filterable(filterable=False)
    if sort:
        panel.sort_by([parts.TableSortByFieldState().display_name(sort).desc(desc=descending)])
    return panel.build()


def notes(frame: Frame, content: str) -> dashboard.Panel:
    """Markdown."""
    panel = text.Panel().id(frame.id).title(frame.title).description(frame.description)
    panel.grid_pos(dashboard.GridPos(w=frame.w, h=frame.h)).content(content)
    return panel.build()


def _framed(
    panel: PanelT,
    frame: Frame,
    *queries: Query,
    layout: PromQueryFormat = PromQueryFormat.TIME_SERIES,
    instant: bool = False,
    interval: str = MIN_INTERVAL,
) -> PanelT:
    panel.id(frame.id).title(frame.title).description(frame.description).datasource(DATASOURCE)
    panel.interval(interval).grid_pos(dashboard.GridPos(w=frame.w, h=frame.h))
    for ref, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(ref).datasource(DATASOURCE).expr(query.expr).format(layout)
        target.legend_format(query.legend).exemplar(query.exemplar).interval(interval)
        panel.with_target(target.instant() if instant else target.range())
    return panel


def _plotted(
    frame: Frame,
    queries: Sequence[Query],
    unit: str,
    colors: Mapping[str, str] | None,
    calcs: Sequence[str],
    no_value: str,
    interval: str = MIN_INTERVAL,
) -> timeseries.Panel:
    panel = _framed(timeseries.Panel(), frame, *queries, interval=interval).unit(unit).no_value(no_value)
    panel.show_points(common.VisibilityMode.NEVER).legend(_legend(calcs))
    panel.tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    if colors is None:
        # The first colour of Grafana's own is green, which is a verdict.
        panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.SHADES).fixed_color(NEUTRAL))
    for name, color in (colors or {}).items():
        fixed = [dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]
        if name.startswith("/"):
            panel.override_by_regexp(name, fixed)
        else:
            panel.override_by_name(name, fixed)
    return panel


def _legend(calcs: Sequence[str]) -> parts.VizLegendOptions:
    legend = parts.VizLegendOptions().show_legend(show_legend=True).calcs(list(calcs))
    if calcs:
        return legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.RIGHT)
    return legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)


def _stacking() -> parts.StackingConfig:
    return parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A")


def _by_thresholds() -> builders.FieldColor:
    return builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    thresholds = [dashboard.Threshold(value=value, color=color) for value, color in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds)


def _mappings(words: Sequence[Words]) -> list[dashboard.ValueMapping]:
    exact = {
        f"{word.value:g}": dashboard.ValueMappingResult(text=word.text, color=word.color)
        for word in words
        if word.end is None
    }
    ranges: list[dashboard.ValueMapping] = [
        dashboard.RangeMap(
            dashboard.DashboardRangeMapOptions(
                from_val=word.value,
                to=word.end,
                result=dashboard.ValueMappingResult(text=word.text, color=word.color),
            )
        )
        for word in words
        if word.end is not None
    ]
    return [dashboard.ValueMap(options=exact), *ranges] if exact else ranges


def _nothing(words: str, color: str) -> dashboard.SpecialValueMap:
    return dashboard.SpecialValueMap(
        dashboard.DashboardSpecialValueMapOptions(
            match=dashboard.SpecialValueMatch.NULL_AND_NAN,
            result=dashboard.ValueMappingResult(text=words, color=color),
        )
    )


def _link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).url(url)


def _transformation(name: str, options: Mapping[str, object]) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val=name, options=options)


def _value_names(count: int) -> list[str]:
    return [f"Value #{ref}" for ref in ascii_uppercase[:count]] if count > 1 else ["Value"]


def _column(column: Column) -> list[dashboard.DynamicConfigValue]:
    # An empty cell would get what stands for an empty table.
    settings: dict[str, object] = {"noValue": column.empty}
    if column.expr:
        settings |= {"unit": column.unit, "custom.align": "right"}
    if column.decimals is not None:
        settings["decimals"] = column.decimals
    mappings = _mappings(column.words)
    if column.steps or column.words:
        settings["custom.cellOptions"] = {"type": "color-text"}
    if column.steps:
        settings["thresholds"] = _thresholds(column.steps).build()
    if column.empty == NOTHING:
        # No value is no verdict: it would have the colour of the lowest step.
        mappings = [*mappings, _nothing(NOTHING, MUTED)]
    if mappings and column.expr:
        settings["mappings"] = mappings
    if column.link:
        settings["links"] = [{"title": f"Open {column.title.lower()}", "url": column.link}]
    if column.width:
        settings["custom.width"] = column.width
    return [dashboard.DynamicConfigValue(name, value) for name, value in settings.items()]
