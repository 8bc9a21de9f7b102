"""Where panels stand, and what all dashboards have: variables, links, annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from grafana.source.palette import BAD, NEUTRAL, WARNING
from grafana.source.panels import DATASOURCE
from grafana.source.queries import TARGET, firing, series

__all__ = ["ACCOUNTS", "EXPORTER", "OVERVIEW", "PLATFORM", "Page", "Row", "compose", "link"]

OVERVIEW, PLATFORM, ACCOUNTS, EXPORTER = "late-overview", "late-platform", "late-accounts", "late-exporter"
"""The uids: links rest on them."""

TAG = "late-exporter"
COLUMNS = 24
SCHEMA = 39
"""Of Grafana 11; later ones bring it up to date themselves."""


@dataclass(frozen=True)
class Row:
    """Panels below a heading; its id never changes."""

    id: int
    title: str
    panels: Sequence[dashboard.Panel]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A dashboard.

    Args:
        uid: What links call it.
        title: What people call it.
        description: What it answers.
        rows: What is on it.
        platforms: The variable to choose platforms with is shown; it keeps its value otherwise.
        accounts: There is a variable to choose accounts with.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    platforms: bool = True
    accounts: bool = False


def compose(page: Page) -> dashboard.Dashboard:
    """The dashboard of a page."""
    builder = builders.Dashboard(page.title).uid(page.uid).description(page.description).tags([TAG]).readonly()
    builder.time("now-6h", "now").refresh("1m").timezone("browser").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    for variable in _variables(page):
        builder.with_variable(variable)
    builder.link(
        builders.DashboardLink("Late")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .icon("dashboard")
        .tooltip("The other dashboards, with the same time and variables")
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
    composed = builder.build()
    composed.schema_version = SCHEMA
    composed.annotations = dashboard.AnnotationContainer(
        [_alerts("Critical alerts", "critical", BAD), _alerts("Warnings", "warning", WARNING, shown=False), _starts()]
    )
    composed.panels = list(_placed(page.rows))
    return composed


def link(uid: str, **variables: str) -> str:
    """The address of another dashboard, with the same data source, targets and time.

    Args:
        uid: The dashboard.
        variables: What others are set to there.
    """
    kept = [f"${{{name}:queryparam}}" for name in ("datasource", "job", "instance", "workspace", "platform")]
    kept = [name for name in kept if name[2:].partition(":")[0] not in variables]
    chosen = [f"var-{name}={value}" for name, value in variables.items()]
    return f"/d/{uid}?{'&'.join([*kept, *chosen, '${__url_time_range}'])}"


def _variables(page: Page) -> Iterator[builders.DatasourceVariable | builders.QueryVariable]:
    workspace = f'{TARGET}, workspace=~"$workspace"'
    families = "late_publishing_logs_total|late_connection_events_total"
    yield builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    yield _variable("job", "Job", "label_values(late_exporter_build_info, job)")
    yield _variable("instance", "Instance", 'label_values(late_exporter_build_info{job=~"$job"}, instance)')
    yield _variable("workspace", "Workspace", f"label_values(late_up{{{TARGET}}}, workspace)")
    platform = _variable("platform", "Platform", f'label_values({{__name__=~"{families}", {workspace}}}, platform)')
    yield platform if page.platforms else platform.hide(dashboard.VariableHide.HIDE_VARIABLE)
    if page.accounts:
        account = _variable("account_id", "Account", f"query_result({series('late_account_info')})")
        yield account.regex('/account_id="(?<value>[^"]+)".*username="(?<text>[^"]+)"/')


def _variable(name: str, label: str, query: str) -> builders.QueryVariable:
    everything = dashboard.VariableOption(selected=True, text="All", value="$__all")
    variable = builders.QueryVariable(name).label(label).datasource(DATASOURCE).query(query).current(everything)
    variable.multi(multi=True).include_all(include_all=True).all_value(".+")
    return variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        dashboard.VariableSort.ALPHABETICAL_ASC
    )


def _alerts(name: str, severity: str, color: str, *, shown: bool = True) -> dashboard.AnnotationQuery:
    """One for each thing in trouble, not for each account: each is a shade over all plots."""
    return dashboard.AnnotationQuery(
        name=name,
        datasource=DATASOURCE,
        enable=shown,
        icon_color=color,
        expr=f"max by (alertname, severity, workspace, platform, feed) ({firing(severity)})",
        step="60s",
        title_format="{{alertname}}",
        text_format="{{severity}} {{workspace}} {{platform}} {{feed}}",
        tag_keys="severity",
    )


def _starts() -> dashboard.AnnotationQuery:
    """Its value is the time of the start, wherever in the step it was."""
    build = series("late_exporter_build_info")
    joined = f"process_start_time_seconds{{{TARGET}}} * on (job, instance) group_left (version, revision) {build}"
    return dashboard.AnnotationQuery(
        name="Starts and releases",
        datasource=DATASOURCE,
        icon_color=NEUTRAL,
        expr=f"1000 * {joined}",
        step="60s",
        title_format="late-exporter {{version}} started",
        text_format="{{instance}}, revision {{revision}}",
        use_value_for_time=True,
    )


def _placed(rows: Sequence[Row]) -> Iterator[dashboard.Panel | dashboard.RowPanel]:
    """Rows and panels, each panel as high up and as far left below its heading as there is room."""
    floor = 0
    for row in rows:
        yield dashboard.RowPanel(title=row.title, id_val=row.id, grid_pos=dashboard.GridPos(h=1, w=COLUMNS, y=floor))
        filled = [floor + 1] * COLUMNS
        for panel in row.panels:
            place = panel.grid_pos
            if place is None:
                raise ValueError(f"{panel.title} has no size")
            place.y, place.x = min((max(filled[x : x + place.w]), x) for x in range(COLUMNS - place.w + 1))
            filled[place.x : place.x + place.w] = [place.y + place.h] * place.w
            yield panel
        floor = max(filled)
