"""Status page: the state of every workspace and feed as HTML without scripts, problems first.

The markup is in ``landing.html``; this module prepares its values. All functions of ``verdicts`` are filters in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING

from late_exporter.status import Quota
from late_exporter.web import verdicts
from late_exporter.web.verdicts import MAX_NAME_LENGTH, TONES, StatusDocument

if TYPE_CHECKING:
    from jinja2 import Template

MIN_PERCENT = 0.0005
"""Shares below this would be rounded to zero, so they are shown as an upper limit."""

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("landing.css").read_text("utf-8")


def render_page(document: StatusDocument, paths: Sequence[str], documentation: str) -> str:
    """Render the page, which links to other paths and to the URL ``documentation``, if there is one."""
    rows = [
        (number, workspace, verdicts.verdicts_of([workspace], document.now)[0])
        for number, workspace in enumerate(document.workspaces)
    ]
    return load_template().render(
        document=document,
        documentation=documentation,
        feeds=[feed for workspace in document.workspaces for feed in workspace.feeds],
        paths=paths,
        verdicts=verdicts.verdicts_of(document.workspaces, document.now),
        workspaces=sorted(rows, key=lambda row: TONES.index(row[2].tone)),
    )


@cache
def load_template() -> Template:
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {name: value for name, value in vars(verdicts).items() if isfunction(value)}
    environment.filters |= {
        "host": _host,
        "number": "{:,}".format,
        "percent": _percent,
        "quota_share": _quota_share,
        "round_percent": "{:.0%}".format,
        "width": "{:.1%}".format,
    }
    environment.globals |= {"min_quota_wait": verdicts.MIN_QUOTA_WAIT, "name_length": MAX_NAME_LENGTH, "style": STYLE}
    return environment.from_string(_RESOURCES.joinpath("landing.html").read_text("utf-8"))


def _host(base_url: str) -> str:
    return base_url.partition("://")[2].partition("/")[0].rpartition("@")[2] or base_url


def _quota_share(quota: Quota) -> float:
    return min(max(quota.remaining / max(quota.limit, 1), 0), 1)


def _percent(share: float) -> str:
    return f"<{2 * MIN_PERCENT:.1%}" if share < MIN_PERCENT else f"{share:.1%}"
