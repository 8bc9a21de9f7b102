"""Status page, and pages of the last failures, as HTML without scripts.

The markup is in ``status_page.html``; this module prepares its values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from late_exporter import __url__
from late_exporter.format import human_duration, plural
from late_exporter.health import Failure
from late_exporter.web import verdicts
from late_exporter.web.findings import (
    Finding,
    StatusDocument,
    as_sentence,
    problems_in,
    working_parts,
)
from late_exporter.web.markdown import render_markdown

_RESOURCES = Path(__file__).parent

REFRESH_SECONDS = 15
"""Seconds after which a page reloads itself."""

STYLE = _RESOURCES.joinpath("status_page.css").read_text("utf-8")


def render_page(
    document: StatusDocument,
    subjects: AbstractSet[str],
    paths: Sequence[str],
    *,
    reloads: bool = True,
) -> str:
    """Render the page, which links to other paths, and to the subjects that have failures.

    It says whether it reloads itself.
    """
    problems = problems_in(document.findings)
    findings_of: dict[str, list[Finding]] = {each.name: [] for each in document.workspaces}
    for finding in document.findings:
        for name in finding.workspaces:
            if name in findings_of:
                findings_of[name].append(finding)
    counts = Counter[str]()
    for finding in problems[1:]:
        counts[finding.wording.noun] += max(finding.count, 1)
    return load_template()(
        document=document,
        now=document.now,
        version=document.version,
        problems=problems,
        other_kinds=", ".join(plural(count, noun) for noun, count in counts.items()),
        summary=problems[:1] or list(working_parts(document)),
        findings_of=findings_of,
        subjects=subjects,
        paths=paths,
        root=".",
        page="status",
        reloads=reloads,
    )


def render_failures(
    kind: str,
    failures: Sequence[tuple[str, Failure]],
    *,
    now: float,
    version: str,
    paths: Sequence[str],
    reloads: bool = True,
) -> str:
    """Render the page of failures, each with its workspace, of a platform or an account."""
    newest_first = sorted(failures, key=lambda each: each[1].time, reverse=True)
    newest = newest_first[0][1]
    name = newest.platform
    if kind == "accounts":
        account = verdicts.short_name(newest.username or newest.account_id)
        name = f"{account} on {newest.platform}"
    return load_template()(
        document=None,
        now=now,
        version=version,
        kind=kind,
        name=name,
        failures=newest_first,
        paths=paths,
        root="..",
        page="failures",
        reloads=reloads,
    )


def render_runbook(
    name: str, texts: Mapping[str, str], *, now: float, version: str, paths: Sequence[str]
) -> str:
    """Render a runbook, whose links lead to other ones or out of the exporter."""

    def link_target(target: str) -> str:
        if target.startswith("https://"):
            return target
        return target.removesuffix(".md") if target.removesuffix(".md") in texts else ""

    return load_template()(
        document=None,
        now=now,
        version=version,
        name=name,
        content=render_markdown(texts[name], link_target),
        paths=paths,
        root="..",
        page="runbook",
        reloads=False,
    )


@cache
def load_template() -> Callable[..., str]:
    """Return the function that renders the template."""
    # Imported here because a server whose page is never requested does not need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "as_sentence": as_sentence,
        "human_duration": human_duration,
        "number": "{:,}".format,
        "path_segment": partial(quote, safe="", errors="replace"),
        "plural": plural,
        "round_percent": "{:.0%}".format,
        "short_name": verdicts.short_name,
        "single_line": verdicts.single_line,
        "utc_text": verdicts.utc_text,
        "width": "{:.1%}".format,
    }
    environment.globals |= {
        "documentation": f"{__url__}#readme",
        "refresh_seconds": REFRESH_SECONDS,
        "style": STYLE,
        "verdicts": verdicts,
    }
    return environment.from_string(
        _RESOURCES.joinpath("status_page.html").read_text("utf-8")
    ).render
