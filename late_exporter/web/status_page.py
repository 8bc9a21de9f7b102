"""Status page: the state of every workspace and feed as HTML without scripts, problems first.

The markup is in ``status_page.html``; this module prepares its values. All functions of
``verdicts`` and ``findings`` are filters in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from inspect import getmembers, isfunction
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from late_exporter import __url__
from late_exporter.health import Failure, WorkspaceHealth
from late_exporter.web import findings, verdicts
from late_exporter.web.findings import MAX_NAMES, StatusDocument

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("status_page.css").read_text("utf-8")

Failures: TypeAlias = Mapping[str, Sequence[tuple[str, Failure]]]
"""Failures, each with its workspace, of ``platforms/NAME`` and ``accounts/ID``."""


def failures_by_subject(workspaces: Iterable[WorkspaceHealth]) -> Failures:
    failures: dict[str, list[tuple[str, Failure]]] = {}
    for workspace in workspaces:
        for each in workspace.failures:
            for subject in (f"platforms/{each.platform}", f"accounts/{each.account_id}"):
                failures.setdefault(subject, []).append((workspace.name, each))
    return failures


def render_page(
    document: StatusDocument, failures: Failures, paths: Sequence[str], subject: str = ""
) -> str:
    """Render the page, which links to other paths, or the page of the failures of a subject."""
    return load_template()(
        document=document, failures_by_subject=failures, paths=paths, subject=subject
    )


@cache
def load_template() -> Callable[..., str]:
    """Return the function that renders the template."""
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= dict(getmembers(verdicts, isfunction) + getmembers(findings, isfunction))
    environment.filters |= {
        "number": "{:,}".format,
        "path_segment": partial(quote, safe="", errors="replace"),
        "round_percent": "{:.0%}".format,
        "width": "{:.1%}".format,
    }
    environment.globals |= {
        "documentation": f"{__url__}#readme",
        "max_names": MAX_NAMES,
        "style": STYLE,
    }
    return environment.from_string(
        _RESOURCES.joinpath("status_page.html").read_text("utf-8")
    ).render
