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
from late_exporter.web.verdicts import MAX_NAME_LENGTH, TONES, FeedStatus, StatusDocument, Verdict, feed_status

if TYPE_CHECKING:
    from jinja2 import Template

MIN_PERCENT = 0.0005
"""Shares below this would be rounded to zero, so they are shown as an upper limit."""

_RESOURCES = Path(__file__).parent

STYLE = _RESOURCES.joinpath("landing.css").read_text("utf-8")


class Card(NamedTuple):
    """A workspace on the page.

    Attributes:
        number: Its place in the configuration, for links to it.
        as_of: Time of the last success of a workspace whose feeds all fail, None if its figures are current.
    """

    number: int
    workspace: WorkspaceHealth
    findings: Sequence[Finding]
    verdict: Verdict
    as_of: float | None


def render_page(document: StatusDocument, paths: Sequence[str], documentation: str, *, has_polls: bool = False) -> str:
    """Render the page.

    Args:
        document: What it shows.
        paths: Paths that it links to.
        documentation: URL that it links to, if there is one.
        has_polls: Whether it lists the recent polls.
    """
    cards = [_card(number, workspace, document.now) for number, workspace in enumerate(document.workspaces)]
    found = sorted((finding for card in cards for finding in card.findings), key=lambda each: each.severity)
    return load_template().render(
        cards=sorted(cards, key=_severity),
        document=document,
        documentation=documentation,
        feeds=[feed for workspace in document.workspaces for feed in workspace.feeds],
        has_polls=has_polls,
        numbers={workspace.name: number for number, workspace in enumerate(document.workspaces)},
        paths=paths,
        problems=problems(found),
        verdicts=verdicts_of(document.workspaces, found),
    )


def _card(number: int, workspace: WorkspaceHealth, now: float) -> Card:
    found = find([workspace], now)
    is_current = any(feed_status(feed) is not FeedStatus.FAILING for feed in workspace.feeds)
    last_success = max((feed.last_success or 0.0 for feed in workspace.feeds), default=0.0)
    as_of = None if is_current else last_success or None
    return Card(number, workspace, found, verdicts_of([workspace], found)[0], as_of)


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
        "host": _host,
        "number": "{:,}".format,
        "percent": _percent,
        "quota_share": _quota_share,
        "round_percent": "{:.0%}".format,
        "width": "{:.1%}".format,
    }
    limits = {"max_names": MAX_NAMES, "min_quota_wait": verdicts.MIN_QUOTA_WAIT, "name_length": MAX_NAME_LENGTH}
    environment.globals |= limits | {"style": STYLE}
    return environment.from_string(_RESOURCES.joinpath("landing.html").read_text("utf-8"))


def _host(base_url: str) -> str:
    return base_url.partition("://")[2].partition("/")[0].rpartition("@")[2] or base_url


def _quota_share(quota: Quota) -> float:
    return min(max(quota.remaining / max(quota.limit, 1), 0), 1)


def _percent(share: float) -> str:
    return f"<{2 * MIN_PERCENT:.1%}" if share < MIN_PERCENT else f"{share:.1%}"
