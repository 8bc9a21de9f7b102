"""Builders for the panel types of the dashboards, one style per type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import (
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.source.mappings import ValueMapping
from grafana.source.palette import GOOD, MUTED, NEUTRAL, TEXT
from grafana.source.queries import Query
from grafana.source.thresholds import NEUTRAL_STEPS, Steps

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

MIN_INTERVAL = "30s"
"""Interval of polls and scrapes; ``$__rate_interval`` is at least four times as long."""

HEATMAP_INTERVAL = "5m"
"""Shortest time of a column of a heatmap, with ten scrapes."""

MAX_GAP_MS = 120_000
"""Longest gap, in milliseconds, that a line bridges."""

MAX_BARS = 120
"""Maximum number of bars per chart, so that each one is visible."""

VALUE_SIZE = 34
NAME_SIZE = 14

TRANSPARENT = "transparent"
NO_DATA = "No data"
EMPTY_CELL = "-"


class Unit(NamedTuple):
    """Unit of Grafana and number of decimals."""

    name: str
    decimals: int | None = None


COUNT = Unit("locale", 0)
"""Shows all digits; increase() returns fractions."""

PER_MINUTE = Unit("short", 1)
RATIO = Unit("percentunit")
"""Unit of charts: with decimals, Grafana draws no tick between 0 and 100 %."""

PERCENT = Unit("percentunit", 0)
PERCENT_1 = Unit("percentunit", 1)
PERCENT_2 = Unit("percentunit", 2)
DURATION = Unit("s", 0)
DURATION_1 = Unit("s", 1)
DAYS = Unit("suffix: days", 1)
SINCE = Unit("dateTimeFromNow")
TIME = Unit("dateTimeAsIso")
BYTES = Unit("bytes", 1)
DOLLARS = Unit("currencyUSD", 2)
SECONDS = Unit("suffix: s")
"""Unit of charts, whose ticks in minutes would be odd numbers."""


@dataclass(frozen=True)
class PanelFrame:
    """Id, texts and size of a panel. Links contain the id; the grid has 24 columns."""

    id: int
    title: str
    description: str
    w: int
    h: int


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Range and scale of a value axis.

    Args:
        soft_min: Lower end, unless a value is lower.
        soft_max: Upper end, unless a value is higher.
        hard_min: Lower limit.
        hard_max: Upper limit.
        logarithmic: Whether the scale is logarithmic, without 0.
    """

    soft_min: float = 0
    soft_max: float | None = None
    hard_min: float | None = None
    hard_max: float | None = None
    logarithmic: bool = False


ZERO_BASED_AXIS = Axis()
RATIO_AXIS = Axis(soft_min=0.9, hard_min=0, hard_max=1)
LOGARITHMIC_AXIS = Axis(logarithmic=True)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        title: Column heading.
        label: Label to show; empty for a value column.
        expr: Query of a value column. All queries of a table need the same labels.
        unit: Unit of the value.
        steps: Threshold colors of the value.
        mappings: Texts shown instead of values.
        link: URL opened by a click.
        link_title: Text of the link; defaults to the title of the column.
        width: Width in pixels.
        empty_text: Text of a cell without a value.
        gauge_max: Value of a full bar, if cells show bars; None for plain cells.
    """

    title: str
    label: str = ""
    expr: str = ""
    unit: Unit = COUNT
    steps: Steps | None = None
    mappings: Sequence[ValueMapping] = ()
    link: str = ""
    link_title: str = ""
    width: int | None = None
    empty_text: str = EMPTY_CELL
    gauge_max: float | None = None


class PanelBuilder(Protocol):
    """Methods shared by all panel builders of the SDK."""

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


PanelT = TypeVar("PanelT", bound=PanelBuilder)


def stat_panel(
    frame: PanelFrame,
    *values: str | Query,
    unit: Unit = COUNT,
    steps: Steps = NEUTRAL_STEPS,
    steps_by_name: Mapping[str, Steps] | None = None,
    mappings: Sequence[ValueMapping] = (),
    text_mode: common.BigValueTextMode = common.BigValueTextMode.VALUE,
    no_value: tuple[str, str] = (NO_DATA, MUTED),
    link: str = "",
) -> dashboard.Panel:
    """Return a stat panel with current values.

    Args:
        frame: Id, texts and size.
        values: One query, or several with legends.
        unit: Unit of the values.
        steps: Threshold colors of the background; neutral ones color the text.
        steps_by_name: Threshold colors by legend.
        mappings: Texts shown instead of values.
        text_mode: Whether to show the value, the name, or both.
        no_value: Text and color without data; the color of the lowest step would look like a
            status.
        link: URL opened by a click.
    """
    queries = [value if isinstance(value, Query) else Query(value) for value in values]
    color_mode = common.BigValueColorMode.BACKGROUND_SOLID
    if steps == NEUTRAL_STEPS:
        color_mode = common.BigValueColorMode.VALUE
        no_value = (no_value[0], TEXT)
    panel = _configure_panel(stat.Panel(), frame, *queries, instant=True)
    panel.unit(unit.name).no_value(no_value[0]).mappings(
        [*_sdk_mappings(mappings), _null_mapping(*no_value)]
    )
    panel.thresholds(_thresholds_config(steps)).color_scheme(_threshold_colors())
    panel.color_mode(color_mode).graph_mode(common.BigValueGraphMode.NONE).justify_mode(
        common.BigValueJustifyMode.CENTER
    )
    panel.text_mode(text_mode).text(
        parts.VizTextDisplayOptions().value_size(VALUE_SIZE).title_size(NAME_SIZE)
    )
    panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]))
    if unit.decimals is not None:
        panel.decimals(unit.decimals)
    for name, name_steps in (steps_by_name or {}).items():
        panel.override_by_name(
            name,
            [dashboard.DynamicConfigValue("thresholds", _thresholds_config(name_steps).build())],
        )
    if link:
        panel.data_links([_data_link("Open", link)])
    return panel.build()


def line_chart(
    frame: PanelFrame,
    *queries: Query,
    unit: Unit = COUNT,
    colors: Mapping[str, str] | None = None,
    threshold_lines: Steps = (),
    stacked: bool = False,
    stepped: bool = False,
    axis: Axis = ZERO_BASED_AXIS,
    no_value: str = NO_DATA,
) -> dashboard.Panel:
    """Return a line chart.

    Args:
        frame: Id, texts and size.
        queries: Series to plot.
        unit: Unit of the values.
        colors: Colors by legend or ``/regular expression/``; None for shades of a single color.
        threshold_lines: Dashed horizontal lines with colors.
        stacked: Whether to stack the series.
        stepped: Whether a value holds until the next one.
        axis: Value axis.
        no_value: Text without data.
    """
    panel = _timeseries_panel(frame, queries, unit, colors, no_value)
    panel.line_width(1).fill_opacity(50 if stacked else 0)
    if axis.logarithmic:
        panel.scale_distribution(
            parts.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    else:
        panel.axis_soft_min(axis.soft_min)
    if stacked:
        panel.stacking(_stacking_config()).max_data_points(MAX_BARS)
    else:
        panel.span_nulls(MAX_GAP_MS)
    if stepped:
        panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    if threshold_lines:
        dashed = parts.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds_config(threshold_lines)).thresholds_style(dashed)
    if axis.soft_max is not None:
        panel.axis_soft_max(axis.soft_max)
    if axis.hard_min is not None:
        panel.min(axis.hard_min)
    if axis.hard_max is not None:
        panel.max(axis.hard_max)
    return panel.build()


def bar_chart(
    frame: PanelFrame,
    *queries: Query,
    unit: Unit = COUNT,
    colors: Mapping[str, str] | None = None,
    interval: str = MIN_INTERVAL,
    no_value: str = NO_DATA,
) -> dashboard.Panel:
    """Return a stacked bar chart; ``interval`` is the minimum width of a bar."""
    panel = _timeseries_panel(frame, queries, unit, colors, no_value, interval)
    panel.draw_style(common.GraphDrawStyle.BARS).line_width(0).fill_opacity(85).axis_soft_min(0)
    return panel.stacking(_stacking_config()).max_data_points(MAX_BARS).build()


def heatmap_panel(frame: PanelFrame, query: Query, *, unit: Unit, no_value: str) -> dashboard.Panel:
    """Return a heatmap of a histogram over time, whose query counts over ``$__interval``."""
    color = heatmap.HeatmapColorOptions()
    color.mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).reverse(reverse=False)
    color.scale(heatmaps.HeatmapColorScale.EXPONENTIAL).exponent(0.5).fill("dark-orange")
    panel = _configure_panel(
        heatmap.Panel(), frame, query, layout=PromQueryFormat.HEATMAP, interval=HEATMAP_INTERVAL
    )
    panel.no_value(no_value).calculate(calculate=False).cell_gap(1).color(color).show_legend()
    panel.filter_values(heatmap.FilterValueRange().le(1e-9)).cell_values(
        heatmap.CellValues().unit("short")
    )
    panel.y_axis(heatmap.YAxisConfig().unit(unit.name).axis_placement(common.AxisPlacement.LEFT))
    panel.tooltip(
        heatmap.HeatmapTooltip()
        .mode(common.TooltipDisplayMode.SINGLE)
        .y_histogram(y_histogram=True)
    )
    return panel.build()


def state_timeline(
    frame: PanelFrame,
    query: Query,
    mappings: Sequence[ValueMapping],
    *,
    row_height: float = 0.85,
    no_value: str = NO_DATA,
) -> dashboard.Panel:
    """Return a timeline of the states of each series."""
    panel = (
        _configure_panel(statetimeline.Panel(), frame, query)
        .mappings(_sdk_mappings(mappings))
        .no_value(no_value)
    )
    panel.color_scheme(_threshold_colors()).thresholds(_thresholds_config(NEUTRAL_STEPS)).unit(
        "percentunit"
    )
    panel.merge_values(merge_values=True).show_value(common.VisibilityMode.NEVER).row_height(
        row_height
    )
    panel.fill_opacity(80).line_width(0).legend(_legend_options())
    return panel.tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE)).build()


def table_panel(
    frame: PanelFrame,
    *columns: Column,
    sort: str | Sequence[str] = "",
    descending: bool = True,
    no_value: str = NO_DATA,
) -> dashboard.Panel:
    """Return a table of current values; columns keep their order, and other labels are dropped."""
    values = [column for column in columns if column.expr]
    queries = [Query(column.expr) for column in values]
    panel = _configure_panel(
        table.Panel(), frame, *queries, layout=PromQueryFormat.TABLE, instant=True
    )
    names = dict(zip(values, _value_names(len(values)), strict=True))
    order = [names.get(column, column.label) for column in columns]
    panel.with_transformation(_transformation("filterFieldsByName", {"include": {"names": order}}))
    panel.with_transformation(_transformation("merge", {}))
    titles_by_name = {name: column.title for name, column in zip(order, columns, strict=True)}
    indices = {name: place for place, name in enumerate(order)}
    panel.with_transformation(
        _transformation(
            "organize",
            {"excludeByName": {}, "indexByName": indices, "renameByName": titles_by_name},
        )
    )
    for column in columns:
        panel.override_by_name(column.title, _column_overrides(column))
    panel.color_scheme(_threshold_colors()).thresholds(_thresholds_config(NEUTRAL_STEPS)).unit(
        "short"
    ).no_value(no_value)
    panel.show_header(show_header=True).cell_height(common.TableCellHeight.SM).filterable(
        filterable=False
    )
    if sort:
        titles = (sort,) if isinstance(sort, str) else sort
        panel.sort_by(
            [
                parts.TableSortByFieldState().display_name(title).desc(desc=descending)
                for title in titles
            ]
        )
    return panel.build()


def _configure_panel(
    panel: PanelT,
    frame: PanelFrame,
    *queries: Query,
    layout: PromQueryFormat = PromQueryFormat.TIME_SERIES,
    instant: bool = False,
    interval: str = MIN_INTERVAL,
) -> PanelT:
    panel.id(frame.id).title(frame.title).description(frame.description).datasource(DATASOURCE)
    panel.interval(interval).grid_pos(dashboard.GridPos(w=frame.w, h=frame.h))
    for ref, query in zip(ascii_uppercase, queries, strict=False):
        target = (
            prometheus.Dataquery()
            .ref_id(ref)
            .datasource(DATASOURCE)
            .expr(query.expr)
            .format(layout)
        )
        target.legend_format(query.legend).exemplar(query.exemplar).interval(interval)
        panel.with_target(target.instant() if instant else target.range())
    return panel


def _timeseries_panel(
    frame: PanelFrame,
    queries: Sequence[Query],
    unit: Unit,
    colors: Mapping[str, str] | None,
    no_value: str,
    interval: str = MIN_INTERVAL,
) -> timeseries.Panel:
    panel = (
        _configure_panel(timeseries.Panel(), frame, *queries, interval=interval)
        .unit(unit.name)
        .no_value(no_value)
    )
    panel.show_points(common.VisibilityMode.NEVER).legend(_legend_options())
    if unit.decimals is not None:
        panel.decimals(unit.decimals)
    panel.tooltip(
        parts.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    if colors is None:
        # Grafana's default palette starts with green, which is a status color.
        panel.color_scheme(
            builders.FieldColor().mode(dashboard.FieldColorModeId.SHADES).fixed_color(NEUTRAL)
        )
    for name, color in (colors or {}).items():
        overrides = [dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]
        if name.startswith("/"):
            panel.override_by_regexp(name, overrides)
        else:
            panel.override_by_name(name, overrides)
    return panel


def _legend_options() -> parts.VizLegendOptions:
    legend = parts.VizLegendOptions().show_legend(show_legend=True)
    legend.display_mode(common.LegendDisplayMode.LIST)
    return legend.placement(common.LegendPlacement.BOTTOM)


def _stacking_config() -> parts.StackingConfig:
    return parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A")


def _threshold_colors() -> builders.FieldColor:
    return builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)


def _thresholds_config(steps: Steps) -> builders.ThresholdsConfig:
    thresholds = [dashboard.Threshold(value=value, color=color) for value, color in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds)


def _sdk_mappings(mappings: Sequence[ValueMapping]) -> list[dashboard.ValueMapping]:
    exact = {
        _mapping_key(word.value): dashboard.ValueMappingResult(text=word.text, color=word.color)
        for word in mappings
        if word.end is None
    }
    ranges: list[dashboard.ValueMapping] = [
        dashboard.RangeMap(
            dashboard.DashboardRangeMapOptions(
                from_val=float(word.value),
                to=word.end,
                result=dashboard.ValueMappingResult(text=word.text, color=word.color),
            )
        )
        for word in mappings
        if word.end is not None
    ]
    return [dashboard.ValueMap(options=exact), *ranges] if exact else ranges


def _mapping_key(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _null_mapping(text: str, color: str) -> dashboard.SpecialValueMap:
    return dashboard.SpecialValueMap(
        dashboard.DashboardSpecialValueMapOptions(
            match=dashboard.SpecialValueMatch.NULL_AND_NAN,
            result=dashboard.ValueMappingResult(text=text, color=color),
        )
    )


def _cell_color(color: str) -> str:
    """Return the background of a table cell, which is colored only if it needs attention."""
    return TRANSPARENT if color in (GOOD, NEUTRAL, MUTED) else color


def _data_link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).url(url)


def _transformation(name: str, options: Mapping[str, object]) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val=name, options=options)


def _value_names(count: int) -> list[str]:
    return [f"Value #{ref}" for ref in ascii_uppercase[:count]] if count > 1 else ["Value"]


def _column_overrides(column: Column) -> list[dashboard.DynamicConfigValue]:
    # An empty cell would otherwise show the text for an empty table.
    settings: dict[str, object] = {"noValue": column.empty_text}
    if column.expr:
        settings |= {"unit": column.unit.name, "custom.align": "right"}
    if column.expr and column.unit.decimals is not None:
        settings["decimals"] = column.unit.decimals
    if column.gauge_max is not None:
        settings["custom.cellOptions"] = {"type": "gauge", "mode": "basic"}
        settings |= {"min": 0, "max": column.gauge_max}
    elif column.steps or column.mappings:
        settings["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    if column.steps:
        is_bar = column.gauge_max is not None
        steps = [(value, color if is_bar else _cell_color(color)) for value, color in column.steps]
        settings["thresholds"] = _thresholds_config(tuple(steps)).build()
    mappings = _sdk_mappings(
        [replace(mapping, color=_cell_color(mapping.color)) for mapping in column.mappings]
    )
    if column.expr and column.empty_text == EMPTY_CELL:
        # Without a value there is no status, so do not use the color of the lowest step.
        mappings = [*mappings, _null_mapping(EMPTY_CELL, TRANSPARENT)]
    if mappings:
        settings["mappings"] = mappings
    if column.link:
        title = column.link_title or f"Open {column.title.lower()}"
        settings["links"] = [{"title": title, "url": column.link}]
    if column.width:
        settings["custom.width"] = column.width
    return [dashboard.DynamicConfigValue(name, value) for name, value in settings.items()]
