"""Findings: what is wrong in the workspaces, worst first, for the status page and the command ``status``."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import msgspec

from late_exporter.format import human_duration, plural
from late_exporter.health import (
    AccountHealth,
    ClusterHealth,
    Condition,
    FeedHealth,
    PlatformHealth,
    StatusFeedHealth,
    WorkspaceHealth,
)
from late_exporter.web import verdicts
from late_exporter.web.verdicts import HOUR, TONES, PollingState, short_name, single_line

DAY = 24 * HOUR
MAX_NAMES = 5

MAX_CLOCK_OFFSET = 60.0
"""Seconds by which the clocks of the host and the API may differ."""

FAILURES_IN_A_ROW = 5
"""Failed attempts of an account in a row; as in LateAccountFailing."""


class Kind(NamedTuple):
    """Wording and severity of a kind of findings.

    Attributes:
        text: Sentence about conditions of status feeds; ``{when}`` is the time of the first,
            ``{accounts}`` how many.
        suffix: What follows the name of each.
        warn_after: Seconds after the time of a condition from which it is a problem, rather than
            only of interest.
        bad_after: The same for a critical one.
    """

    text: str = ""
    suffix: str = ""
    warn_after: float = -math.inf
    bad_after: float = math.inf


COOLDOWN = (
    "in cooldown after failed posts; what was scheduled until its end has failed, schedule it again"
)
OVERDUE = "a post that was due {when} is still"
UNREAD = (
    "only the lists of API generation zernio get new logs, but those of late are read;"
    " restart with --api.generation zernio"
)
KINDS = {
    "inactive": Kind("the plan is suspended or gives no access", bad_after=-math.inf),
    "scheduled": Kind(f"{OVERDUE} scheduled", bad_after=HOUR),
    "publishing": Kind(f"{OVERDUE} publishing"),
    "pending_approval": Kind(f"{OVERDUE} pending approval"),
    "platform": Kind(),
    "feed": Kind(),
    "generation": Kind(),
    "clock": Kind(),
    "pending": Kind(),
    "blocked": Kind("{accounts} cannot post"),
    "reconnect": Kind("{accounts} must be connected again"),
    "token": Kind("{tokens} will expire soon", ", {when}", warn_after=-7 * DAY, bad_after=-DAY),
    "cooldown": Kind(f"{{accounts}} {COOLDOWN}", ", which ends {when}"),
    "account": Kind(),
    "balance": Kind("pay-per-use has stopped"),
    "limit": Kind("little or nothing is left of the plan"),
    "webhook": Kind("{webhooks} switched off"),
    "status_feed": Kind(),
    "plan": Kind("the plan", warn_after=math.inf),
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
    def line(self) -> str:
        """The sentence with the first names."""
        names, more = ", ".join(self.names[:MAX_NAMES]), len(self.names) - MAX_NAMES
        return f"{self.text}{names and ': '}{names}{f' and {more:,} more' if more > 0 else ''}"


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What the status page shows, as JSON, for ``late-exporter status``.

    Args:
        now: Unix time in seconds.
        workspaces: Those with the worst findings first, without failures, which would be most of
            it.
        findings: Everything found in the workspaces, worst first.
    """

    version: str
    now: float
    workspaces: tuple[WorkspaceHealth, ...]
    findings: tuple[Finding, ...] = ()
    cluster: ClusterHealth | None = None

    @classmethod
    def of(
        cls,
        workspaces: Sequence[WorkspaceHealth],
        *,
        version: str,
        now: float,
        cluster: ClusterHealth | None = None,
    ) -> Self:
        """Return the document of some workspaces; ``now`` is in Unix seconds."""
        kinds, by_name = list(KINDS), {each.name: each for each in workspaces}
        replace = msgspec.structs.replace
        findings = [
            replace(finding, workspace=each.name)
            for each in workspaces
            for finding in _find_in(each, each.api_time(now))
        ]
        findings.sort(key=lambda each: (TONES.index(each.tone), kinds.index(each.kind)))
        names = dict.fromkeys(each.workspace for each in findings)
        ordered = tuple(replace(by_name[name], failures=()) for name in names)
        return cls(
            version=version, now=now, workspaces=ordered, findings=tuple(findings), cluster=cluster
        )

    def sentence(self, finding: Finding) -> str:
        """Return what a finding says, beginning with its workspace if there are several."""
        is_named = finding.workspace and len(self.workspaces) > 1
        return f"{finding.workspace}: {finding.text}" if is_named else as_sentence(finding.text)


def problems_in(findings: Iterable[Finding]) -> Sequence[Finding]:
    return [each for each in findings if each.tone in ("bad", "warn")]


def summary_of(document: StatusDocument) -> Sequence[Finding]:
    """Return the worst problem, and how polling and publishing are if they work."""
    return [*problems_in(document.findings)[:1], *working_parts(document)]


def working_parts(document: StatusDocument) -> Iterator[Finding]:
    """Yield how polling and publishing are if they work."""
    polling = _polling_finding(
        [feed for workspace in document.workspaces for feed in workspace.feeds]
    )
    if polling.tone != "bad":
        yield polling
    recent = [
        platform.recent for workspace in document.workspaces for platform in workspace.platforms
    ]
    failed, final = sum(each.failed for each in recent), sum(each.final for each in recent)
    if final and not problems_in(document.findings):
        text = f"publishing works: {failed:,} of {final:,} attempts failed"
        yield Finding(kind="platform", tone="ok", text=text)


def as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _find_in(workspace: WorkspaceHealth, now: float) -> Iterator[Finding]:
    yield from condition_findings(workspace.status.conditions, now)
    for platform in workspace.platforms:
        yield from _platform_findings(platform, workspace.recent_since, now)
    yield from _account_findings(workspace.failing_accounts)
    yield from _feed_findings(workspace)
    if abs(workspace.clock_offset) > MAX_CLOCK_OFFSET:
        duration = human_duration(abs(workspace.clock_offset))
        direction = "ahead of" if workspace.clock_offset > 0 else "behind"
        text = f"the clock of this host is {duration} {direction} that of the API; synchronize it"
        yield Finding(kind="clock", tone="warn", text=text)


def condition_findings(conditions: Sequence[Condition], now: float) -> Iterator[Finding]:
    """Yield what the status feeds of a workspace report; ``now`` is in Unix seconds."""
    current = [each for each in conditions if each.kind != "cooldown" or each.at > now]
    current.sort(key=lambda each: each.at)
    for kind in KINDS:
        if matches := [each for each in current if each.kind == kind]:
            yield _condition_finding(kind, matches, now)


def _condition_finding(kind: str, conditions: Sequence[Condition], now: float) -> Finding:
    """Return what some conditions of a kind, earliest first, have in common."""
    wording, age = KINDS[kind], now - conditions[0].at
    times = [verdicts.relative_time(each.at, now, coarse=True) for each in conditions]
    counts = {f"{noun}s": plural(len(conditions), noun) for noun in ("account", "token", "webhook")}
    names = (
        single_line(f"{each.name}: {each.text}".rstrip(": ")) + wording.suffix.format(when=when)
        for each, when in zip(conditions, times, strict=True)
    )
    return Finding(
        kind=kind,
        tone="bad" if age > wording.bad_after else "warn" if age > wording.warn_after else "ok",
        text=wording.text.format(when=times[0], **counts),
        names=tuple(filter(None, names)),
        subjects=tuple(each.subject for each in conditions),
    )


def _platform_findings(
    platform: PlatformHealth, recent_since: float | None, now: float
) -> Iterator[Finding]:
    tone, recent, name = (
        verdicts.platform_tone(platform),
        platform.recent,
        short_name(platform.name),
    )
    if tone != "ok":
        window = verdicts.window_name(recent_since or 0.0, now).lower()
        text = f"{recent.failed:,} of {recent.final:,} attempts on {name} failed in the {window}"
        yield Finding(kind="platform", tone=tone, text=text)
    if verdicts.is_stuck(platform, now) and platform.oldest_pending is not None:
        age = human_duration(now - platform.oldest_pending)
        yield Finding(
            kind="pending", tone="warn", text=f"a post on {name} has been pending for {age}"
        )


def _account_findings(accounts: Sequence[AccountHealth]) -> Iterator[Finding]:
    """Yield one finding about the accounts whose alert fires, and one about others whose last attempt failed."""
    for tone, what in (
        ("warn", f"failed {FAILURES_IN_A_ROW} times or more in a row"),
        ("ok", "failed the last publish"),
    ):
        failing = [
            each
            for each in accounts
            if (each.consecutive_failures >= FAILURES_IN_A_ROW) == (tone == "warn")
        ]
        names = (
            f"{short_name(each.username or each.account_id)} ({short_name(each.platform)})"
            for each in failing
        )
        if failing:
            text, subjects = (
                f"{plural(len(failing), 'account')} {what}",
                tuple(each.account_id for each in failing),
            )
            yield Finding(
                kind="account", tone=tone, text=text, names=tuple(names), subjects=subjects
            )


def _feed_findings(workspace: WorkspaceHealth) -> Iterator[Finding]:
    """Yield one finding per cause of failures, which feeds share, or else one about how polling is."""
    causes = _by_cause(
        feed for feed in workspace.feeds if verdicts.polling_state(feed) is PollingState.FAILING
    )
    if not causes:
        yield _polling_finding(workspace.feeds)
    for cause, names in causes.items():
        yield Finding(kind="feed", tone="bad", text=f"feed{names} failed: {cause}")
    if outdated := [short_name(feed.name) for feed in workspace.feeds if feed.is_outdated]:
        yield Finding(kind="generation", tone="warn", text=UNREAD, names=tuple(outdated))
    yield from _status_feed_findings(workspace.status.feeds, causes)


def _status_feed_findings(
    feeds: Iterable[StatusFeedHealth], known_causes: Container[str]
) -> Iterator[Finding]:
    for is_off, tone, what in (
        (False, "warn", "failed"),
        (True, "ok", "switched off, and tried again hourly"),
    ):
        matches = [feed for feed in feeds if feed.error and bool(feed.disabled_reason) == is_off]
        for cause, names in _by_cause(matches).items():
            if cause not in known_causes:
                yield Finding(
                    kind="status_feed", tone=tone, text=f"status feed{names} {what}: {cause}"
                )


def _polling_finding(feeds: Sequence[FeedHealth]) -> Finding:
    """Return how the polling of feeds is."""
    if not feeds:
        return Finding(kind="feed", tone="idle", text="no feed is polled by this process")
    statuses = [verdicts.polling_state(feed) for feed in feeds]
    worst = min(statuses, key=list(PollingState).index)
    count, total = statuses.count(worst), plural(len(statuses), "feed")
    text = f"{count:,} of {total} {'is' if count == 1 else 'are'} {worst.predicate}"
    return Finding(kind="feed", tone=worst.tone, text=text)


def _by_cause(feeds: Iterable[FeedHealth | StatusFeedHealth]) -> Mapping[str, str]:
    """Return the names of feeds, as what follows "feed", by error without the id of a request, which always differs."""
    names: dict[str, list[str]] = {}
    for feed in feeds:
        cause = re.sub(r" \(request id [^()]*\)$", "", single_line(feed.error))
        names.setdefault(cause, []).append(short_name(feed.name))
    return {cause: f"{'s' * (len(each) > 1)} {', '.join(each)}" for cause, each in names.items()}
