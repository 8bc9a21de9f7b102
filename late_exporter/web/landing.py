"""Status page: the state of every workspace and feed as HTML without scripts, problems first.

The markup is in ``landing.html``; this module prepares its values. All functions of ``verdicts`` and ``findings`` are
filters in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from late_exporter.status import Quota, WorkspaceHealth
from late_exporter.web import findings, verdicts
from late_exporter.web.findings import MAX_NAMES, Finding, find, problems, verdicts_of
from late_exporter.web.verdicts import TONES, StatusDocument, Verdict

if TYPE_CHECKING:
    from jinja2 import Template

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("landing.css").read_text("utf-8")


class Card(NamedTuple):
    """A workspace on the page, with its findings and the worst verdict."""

    workspace: WorkspaceHealth
    findings: Sequence[Finding]
    verdict: Verdict


def render_page(document: StatusDocument, paths: Sequence[str], documentation: str) -> str:
    """Render the page, which links to other paths and to the URL ``documentation``, if there is one."""
    cards = [_card(workspace, document.now) for workspace in document.workspaces]
    found = sorted((finding for card in cards for finding in card.findings), key=lambda each: each.severity)
    return load_template().render(
        cards=sorted(cards, key=_severity),
        document=document,
        documentation=documentation,
        feeds=[feed for workspace in document.workspaces for feed in workspace.feeds],
        paths=paths,
        problems=problems(found),
        verdicts=verdicts_of(document.workspaces, found),
    )


def _card(workspace: WorkspaceHealth, now: float) -> Card:
    found = find([workspace], now)
    return Card(workspace, found, verdicts_of([workspace], found)[0])


def _severity(card: Card) -> tuple[int, ...]:
    return TONES.index(card.verdict.tone), *(each.severity[1] for each in problems(card.findings)[:1])


@cache
def load_template() -> Template:
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    functions = vars(verdicts) | vars(findings)
    environment.filters |= {name: value for name, value in functions.items() if isfunction(value)}
    environment.filters |= {
        "number": "{:,}".format,
        "quota_share": _quota_share,
        "round_percent": "{:.0%}".format,
        "width": "{:.1%}".format,
    }
    environment.globals |= {"max_names": MAX_NAMES, "style": STYLE}
    return environment.from_string(_RESOURCES.joinpath("landing.html").read_text("utf-8"))


def _quota_share(quota: Quota) -> float:
    return min(max(quota.remaining / max(quota.limit, 1), 0), 1)
