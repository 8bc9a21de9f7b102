"""Findings: what is wrong in the workspaces, worst first, for the status page and the command ``status``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Self

import msgspec

from late_exporter.format import human_duration, plural
from late_exporter.status import AccountHealth, Condition, FeedHealth, PlatformHealth, WorkspaceHealth
from late_exporter.store.cluster import ClusterHealth
from late_exporter.web import verdicts
from late_exporter.web.verdicts import HOUR, TONES, FeedStatus, Verdict, short_name, single_line

DAY = 24 * HOUR
MAX_NAMES = 5

FAILURES_IN_A_ROW = 5
"""Failed attempts of an account in a row; as in LateAccountFailing."""


class Kind(NamedTuple):
    """Wording and severity of a kind of findings.

    Attributes:
        noun: What a summary counts, in the singular.
        text: Sentence about conditions of status feeds; ``{when}`` is the time of the first, ``{accounts}`` how many.
        suffix: What follows the name of each.
        warn_after: Seconds after the time of a condition from which it is a problem, rather than only of interest.
        bad_after: The same for a critical one.
    """

    noun: str
    text: str = ""
    suffix: str = ""
    warn_after: float = -math.inf
    bad_after: float = math.inf


COOLDOWN = "in cooldown after failed posts; what was scheduled until its end has failed, schedule it again"
OVERDUE = "a post that was due {when} is still"
KINDS = {
    "inactive": Kind("suspended plan", "the plan is suspended or gives no access", bad_after=-math.inf),
    "scheduled": Kind("overdue post", f"{OVERDUE} scheduled", bad_after=HOUR),
    "publishing": Kind("overdue post", f"{OVERDUE} publishing"),
    "pending_approval": Kind("unapproved post", f"{OVERDUE} pending approval"),
    "platform": Kind("failing platform"),
    "feed": Kind("polling problem"),
    "pending": Kind("stuck post"),
    "blocked": Kind("blocked account", "{accounts} cannot post"),
    "reconnect": Kind("disconnected account", "{accounts} must be connected again"),
    "token": Kind("expiring token", "{tokens} will expire soon", ", {when}", warn_after=-7 * DAY, bad_after=-DAY),
    "cooldown": Kind("cooldown", f"{{accounts}} {COOLDOWN}", ", which ends {when}"),
    "account": Kind("failing account"),
    "balance": Kind("empty balance", "pay-per-use has stopped"),
    "limit": Kind("plan limit", "little or nothing is left of the plan"),
    "webhook": Kind("disabled webhook", "{webhooks} switched off"),
    "status_feed": Kind("failing status feed"),
    "plan": Kind("plan", "the plan", warn_after=math.inf),
}
"""Kinds of findings; among equally severe ones, the worst first."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a workspace that needs attention.

    Args:
        kind: As in KINDS.
        tone: As severe as the alert: bad or warn; another one if it is only of interest.
        text: Sentence that begins in lower case.
        names: What it is about.
        subjects: Their ids, if they have any.
    """

    kind: str
    tone: str
    text: str
    names: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    workspace: str = ""

    @property
    def severity(self) -> tuple[int, int]:
        """Key to sort by, worst first."""
        return TONES.index(self.tone), list(KINDS).index(self.kind)

    @property
    def line(self) -> str:
        """The sentence with the first names."""
        names, more = ", ".join(self.names[:MAX_NAMES]), len(self.names) - MAX_NAMES
        return f"{self.text}{names and ': '}{names}{f' and {more:,} more' if more > 0 else ''}"


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What the status page shows, as JSON, for ``late-exporter status``.

    Args:
        now: Unix time in seconds.
        workspaces: Those with the worst findings first.
        findings: Everything found in the workspaces, worst first.
    """

    version: str
    now: float
    workspaces: tuple[WorkspaceHealth, ...]
    findings: tuple[Finding, ...] = ()
    cluster: ClusterHealth | None = None

    @classmethod
    def of(
        cls, workspaces: Sequence[WorkspaceHealth], *, version: str, now: float, cluster: ClusterHealth | None = None
    ) -> Self:
        """Return the document of some workspaces; ``now`` is in Unix seconds."""
        findings = tuple(chain.from_iterable(_find_in(each, now) for each in workspaces))
        findings = tuple(sorted(findings, key=lambda each: each.severity))
        ranks = {name: rank for rank, name in enumerate(dict.fromkeys(each.workspace for each in findings))}
        ordered = tuple(sorted(workspaces, key=lambda each: ranks.get(each.name, len(ranks))))
        return cls(version=version, now=now, workspaces=ordered, findings=findings, cluster=cluster)


def problems_in(findings: Iterable[Finding]) -> Sequence[Finding]:
    return [each for each in findings if each.tone in ("bad", "warn")]


def verdicts_of(document: StatusDocument) -> Sequence[Verdict]:
    """Return the verdicts about all workspaces, the worst one first."""
    workspaces, problems, sentences = document.workspaces, problems_in(document.findings), list[Verdict]()
    if problems:
        worst, others = problems[0], Counter[str]()
        for each in problems[1:]:
            others[KINDS[each.kind].noun] += max(len(each.names), 1)
        text = f"{worst.workspace}: {worst.text}" if len(workspaces) > 1 else as_sentence(worst.text)
        sentences.append(Verdict(worst.tone, text, ", ".join(plural(count, noun) for noun, count in others.items())))
    if not any(finding.kind == "feed" for finding in problems):
        polling = _polling_finding([feed for workspace in workspaces for feed in workspace.feeds])
        sentences.append(Verdict(polling.tone, as_sentence(polling.text)))
    recent = [platform.recent for workspace in workspaces for platform in workspace.platforms]
    failed, final = sum(each.failed for each in recent), sum(each.final for each in recent)
    if final and not problems:
        sentences.append(Verdict("ok", f"Publishing works: {failed:,} of {final:,} attempts failed"))
    return sentences


def as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _find_in(workspace: WorkspaceHealth, now: float) -> Iterator[Finding]:
    findings = chain(
        condition_findings(workspace.status.conditions, now),
        *(_platform_findings(each, workspace.recent_since, now) for each in workspace.platforms),
        _account_findings(workspace.failing_accounts),
        _feed_findings(workspace),
    )
    return (msgspec.structs.replace(each, workspace=workspace.name) for each in findings)


def condition_findings(conditions: Sequence[Condition], now: float) -> Iterator[Finding]:
    """Yield what the status feeds of a workspace report; ``now`` is in Unix seconds."""
    for kind, wording in KINDS.items():
        matches = [each for each in conditions if each.kind == kind and (kind != "cooldown" or each.at > now)]
        if matches:
            matches.sort(key=lambda each: each.at)
            times = [verdicts.relative_time(each.at, now, coarse=True) for each in matches]
            age = now - matches[0].at
            counts = {f"{noun}s": plural(len(matches), noun) for noun in ("account", "token", "webhook")}
            names = (
                single_line(f"{each.name}: {each.text}".rstrip(": ")) + wording.suffix.format(when=when)
                for each, when in zip(matches, times, strict=True)
            )
            yield Finding(
                kind=kind,
                tone="bad" if age > wording.bad_after else "warn" if age > wording.warn_after else "ok",
                text=wording.text.format(when=times[0], **counts),
                names=tuple(filter(None, names)),
                subjects=tuple(each.subject for each in matches),
            )


def _platform_findings(platform: PlatformHealth, recent_since: float | None, now: float) -> Iterator[Finding]:
    tone, recent, name = verdicts.platform_tone(platform), platform.recent, short_name(platform.name)
    if tone != "ok":
        window = verdicts.window_name(recent_since or 0.0, now).lower()
        text = f"{recent.failed:,} of {recent.final:,} attempts on {name} failed in the {window}"
        yield Finding(kind="platform", tone=tone, text=text)
    if verdicts.is_stuck(platform, now) and platform.oldest_pending is not None:
        age = human_duration(now - platform.oldest_pending, rough=True)
        yield Finding(kind="pending", tone="warn", text=f"a post on {name} has been pending for {age}")


def _account_findings(accounts: Sequence[AccountHealth]) -> Iterator[Finding]:
    """Yield one finding about the accounts whose alert fires, and one about others whose last attempt failed."""
    for tone, what in ("warn", f"failed {FAILURES_IN_A_ROW} times or more in a row"), ("ok", "failed the last publish"):
        failing = [each for each in accounts if (each.consecutive_failures >= FAILURES_IN_A_ROW) == (tone == "warn")]
        names = (f"{short_name(each.username or each.account_id)} ({short_name(each.platform)})" for each in failing)
        if failing:
            text, subjects = f"{plural(len(failing), 'account')} {what}", tuple(each.account_id for each in failing)
            yield Finding(kind="account", tone=tone, text=text, names=tuple(names), subjects=subjects)


def _feed_findings(workspace: WorkspaceHealth) -> Iterator[Finding]:
    """Yield one finding per cause of failures, which feeds share, or else one about how polling is."""
    failing = [feed for feed in workspace.feeds if verdicts.feed_status(feed) is FeedStatus.FAILING]
    causes = _by_cause((feed.error, feed.name) for feed in failing)
    if not failing:
        yield _polling_finding(workspace.feeds)
    for cause, names in causes.items():
        text = FeedStatus.FAILING.text(len(names), len(workspace.feeds), names)
        yield Finding(kind="feed", tone="bad", text=f"{text}: {cause}")
    status_feeds = workspace.status.feeds
    for feed in status_feeds:
        if feed.disabled_reason:
            text = f"status feed {feed.name} is off, and tried again hourly: {single_line(feed.error)}"
            yield Finding(kind="status_feed", tone="ok", text=text)
    status_causes = _by_cause((feed.error, feed.name) for feed in status_feeds if not feed.disabled_reason)
    for cause, names in status_causes.items():
        if cause and cause not in causes:
            text = f"status feed{'s' * (len(names) > 1)} {', '.join(names)} failed: {cause}"
            yield Finding(kind="status_feed", tone="warn", text=text)


def _polling_finding(feeds: Sequence[FeedHealth]) -> Finding:
    """Return how the polling of feeds is of which none fails."""
    if not feeds:
        return Finding(kind="feed", tone="idle", text="no feed is configured")
    statuses = [verdicts.feed_status(feed) for feed in feeds]
    worst = min(statuses, key=list(FeedStatus).index)
    return Finding(kind="feed", tone=worst.tone, text=worst.text(statuses.count(worst), len(statuses)))


def _by_cause(errors: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return names by error, without the id of a request, which differs in every error."""
    names: dict[str, list[str]] = {}
    for error, name in errors:
        names.setdefault(re.sub(r" \(request id [^()]*\)$", "", single_line(error)), []).append(short_name(name))
    return names
