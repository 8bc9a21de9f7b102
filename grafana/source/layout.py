"""Dashboard layout and the parts all dashboards share: variables, links, annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from grafana.source.palette import BAD, NEUTRAL, WARNING
from grafana.source.panels import DATASOURCE
from grafana.source.queries import TARGET, WORKSPACE_TARGET, add_labels, firing_alerts, selector

OVERVIEW = "late-overview"
PLATFORM = "late-platform"
ACCOUNTS = "late-accounts"
EXPORTER = "late-exporter"
"""Dashboard uids; links depend on them."""

TAG = "late-exporter"
COLUMNS = 24
SCHEMA = 39
"""Schema version of Grafana 11; newer versions migrate it on load."""


@dataclass(frozen=True)
class PanelRow:
    """Panels below a heading; a collapsed row loads its panels when it is opened."""

    id: int
    title: str
    panels: Sequence[dashboard.Panel]
    collapsed: bool = False


@dataclass(frozen=True, kw_only=True)
class DashboardSpec:
    """Definition of a dashboard.

    Args:
        uid: Stable identifier used in links.
        title: Title in Grafana.
        description: Question that the dashboard answers.
        rows: Panels in display order.
        show_platform_variable: Whether the platform variable is visible; a hidden one keeps its
            value for links.
        has_account_variable: Whether accounts can be selected.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[PanelRow]
    show_platform_variable: bool = True
    has_account_variable: bool = False


def build_dashboard(page: DashboardSpec) -> dashboard.Dashboard:
    """Build the SDK dashboard from a definition."""
    builder = (
        builders.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG])
        .readonly()
    )
    builder.time("now-6h", "now").refresh("1m").timezone("browser").tooltip(
        dashboard.DashboardCursorSync.CROSSHAIR
    )
    for variable in _template_variables(page):
        builder.with_variable(variable)
    builder.link(
        builders.DashboardLink("Late")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .icon("dashboard")
        .tooltip("Other dashboards, with the same time range and variables")
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
    built = builder.build()
    built.schema_version = SCHEMA
    built.annotations = dashboard.AnnotationContainer(
        [
            _alert_annotation("Critical alerts", "critical", BAD),
            _alert_annotation("Warnings", "warning", WARNING, enabled=False),
            _start_annotation(),
        ]
    )
    built.panels = list(_place_panels(page.rows))
    return built


def dashboard_url(uid: str, **variables: str) -> str:
    """Return the URL of another dashboard with the same data source, targets and time range.

    Args:
        uid: Dashboard to open.
        variables: Values to set, by variable name.
    """
    inherited = [
        f"${{{name}:queryparam}}"
        for name in ("datasource", "job", "instance", "workspace", "platform")
    ]
    inherited = [name for name in inherited if name[2:].partition(":")[0] not in variables]
    overridden = [f"var-{name}={value}" for name, value in variables.items()]
    return f"/d/{uid}?{'&'.join([*inherited, *overridden, '${__url_time_range}'])}"


def _template_variables(
    page: DashboardSpec,
) -> Iterator[builders.DatasourceVariable | builders.QueryVariable]:
    workspace = f'{WORKSPACE_TARGET}, workspace=~"$workspace"'
    families = "late_publishing_logs_total|late_connection_events_total"
    yield builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    yield _query_variable(
        "job", "Job", 'label_values({__name__=~"late_exporter_build_info|late_up"}, job)'
    )
    yield _query_variable(
        "instance", "Instance", 'label_values(late_exporter_build_info{job=~"$job"}, instance)'
    )
    yield _query_variable(
        "workspace", "Workspace", f"label_values(late_up{{{WORKSPACE_TARGET}}}, workspace)"
    )
    platform = _query_variable(
        "platform", "Platform", f'label_values({{__name__=~"{families}", {workspace}}}, platform)'
    )
    yield (
        platform
        if page.show_platform_variable
        else platform.hide(dashboard.VariableHide.HIDE_VARIABLE)
    )
    if page.has_account_variable:
        info = selector("late_account_info")
        titled = f'label_join({info}, "title", ", ", "username", "platform")'
        account = _query_variable("account_id", "Account", f"query_result({titled})")
        yield account.regex('/account_id="(?<value>[^"]+)".*title="(?<text>[^"]+)"/')


def _query_variable(name: str, label: str, query: str) -> builders.QueryVariable:
    all_option = dashboard.VariableOption(selected=True, text="All", value="$__all")
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .current(all_option)
    )
    variable.multi(multi=True).include_all(include_all=True).all_value(".+")
    return variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        dashboard.VariableSort.ALPHABETICAL_ASC
    )


def _alert_annotation(
    name: str, severity: str, color: str, *, enabled: bool = True
) -> dashboard.AnnotationQuery:
    """Return an annotation query with one region per alert instead of one per account."""
    return dashboard.AnnotationQuery(
        name=name,
        datasource=DATASOURCE,
        enable=enabled,
        icon_color=color,
        expr=f"max by (alertname, severity, workspace, platform, feed) ({firing_alerts(severity)})",
        step="60s",
        title_format="{{alertname}}",
        text_format="{{severity}} {{workspace}} {{platform}} {{feed}}",
        tag_keys="severity",
    )


def _start_annotation() -> dashboard.AnnotationQuery:
    """Return an annotation query for starts; its value is the exact start time."""
    start_times = add_labels(
        f"process_start_time_seconds{{{TARGET}}}",
        "late_exporter_build_info",
        ("job", "instance"),
        "version",
        "revision",
    )
    return dashboard.AnnotationQuery(
        name="Starts and releases",
        datasource=DATASOURCE,
        icon_color=NEUTRAL,
        expr=f"1000 * {start_times}",
        step="60s",
        title_format="late-exporter {{version}} started",
        text_format="{{instance}}, revision {{revision}}",
        use_value_for_time=True,
    )


def _place_panels(rows: Sequence[PanelRow]) -> Iterator[dashboard.Panel | dashboard.RowPanel]:
    """Yield rows and panels; place each panel as high, then as far left, as it fits in its row."""
    floor = 0
    for row in rows:
        heading = dashboard.RowPanel(title=row.title, id_val=row.id, collapsed=row.collapsed)
        heading.grid_pos = dashboard.GridPos(h=1, w=COLUMNS, y=floor)
        yield heading
        floor += 1
        bottom = _place_in_row(row.panels, floor)
        if row.collapsed:
            heading.panels = list(row.panels)
        else:
            yield from row.panels
            floor = bottom


def _place_in_row(row_panels: Sequence[dashboard.Panel], top: int) -> int:
    """Set the positions of the panels of a row; return where the next row starts."""
    column_heights = [top] * COLUMNS
    for panel in row_panels:
        place = panel.grid_pos
        if place is None:
            raise ValueError(f"{panel.title} has no size")
        place.y, place.x = min(
            (max(column_heights[x : x + place.w]), x) for x in range(COLUMNS - place.w + 1)
        )
        column_heights[place.x : place.x + place.w] = [place.y + place.h] * place.w
    return max(column_heights)
