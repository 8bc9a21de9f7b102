"""Status page: the state of every workspace and feed as HTML without scripts, problems first.

The markup is in ``landing.html``; this module prepares its values. All functions of ``verdicts`` and ``findings`` are
filters in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from late_exporter import __url__
from late_exporter.status import Failure, WorkspaceHealth
from late_exporter.web import findings, verdicts
from late_exporter.web.findings import MAX_NAMES, Finding, StatusDocument, problems_in, verdicts_of

if TYPE_CHECKING:
    from jinja2 import Template

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("landing.css").read_text("utf-8")


def failures_by_subject(workspaces: Iterable[WorkspaceHealth]) -> Mapping[str, Sequence[tuple[str, Failure]]]:
    """Return the failures, each with its workspace, of ``platforms/NAME`` and ``accounts/ID``."""
    failures: dict[str, list[tuple[str, Failure]]] = {}
    for workspace in workspaces:
        for each in workspace.failures:
            for subject in (f"platforms/{each.platform}", f"accounts/{each.account_id}"):
                failures.setdefault(subject, []).append((workspace.name, each))
    return failures


def render_page(document: StatusDocument, paths: Sequence[str], subject: str = "") -> str:
    """Render the page, which links to other paths, or the page of the failures of a subject."""
    by_workspace: dict[str, list[Finding]] = {each.name: [] for each in document.workspaces}
    for finding in document.findings:
        by_workspace[finding.workspace].append(finding)
    return load_template().render(
        cards=[(each, by_workspace[each.name]) for each in document.workspaces],
        document=document,
        failures_by_subject=failures_by_subject(document.workspaces),
        feeds=[feed for workspace in document.workspaces for feed in workspace.feeds],
        paths=paths,
        problems=problems_in(document.findings),
        subject=subject,
        verdicts=verdicts_of(document),
    )


@cache
def load_template() -> Template:
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    functions = vars(verdicts) | vars(findings)
    environment.filters |= {name: value for name, value in functions.items() if isfunction(value)}
    environment.filters |= {
        "number": "{:,}".format,
        "path_segment": partial(quote, safe="", errors="replace"),
        "round_percent": "{:.0%}".format,
        "width": "{:.1%}".format,
    }
    environment.globals |= {"documentation": f"{__url__}#readme", "max_names": MAX_NAMES, "style": STYLE}
    return environment.from_string(_RESOURCES.joinpath("landing.html").read_text("utf-8"))
