"""Findings: what is wrong in the workspaces, worst first, for page and command ``status``."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self, TypeVar

import msgspec
from msgspec.structs import replace

from late_exporter import thresholds
from late_exporter.format import human_duration, plural
from late_exporter.health import (
    ClusterHealth,
    Condition,
    FeedHealth,
    PlatformHealth,
    StatusFeedHealth,
    WorkspaceHealth,
)
from late_exporter.web import verdicts
from late_exporter.web.verdicts import TONES, PollingState, short_name, single_line

MAX_SUBJECTS = 5
"""Maximum number of subjects that a finding names."""

MIN_FINDINGS = 10
"""Number of findings, and of workspaces of each, that a document has however short it must be."""

BILLING = "billing"

FeedT = TypeVar("FeedT", FeedHealth, StatusFeedHealth)

ACCOUNT_LOST = ("at_risk", "reconnect", "blocked")
"""Kinds of conditions that explain why the posts of an account fail."""


class Kind(NamedTuple):
    """Wording and severity of a kind of findings.

    Attributes:
        noun: What one of it is called where problems are counted.
        runbook: Runbook of its alert.
        command: Command that shows more, or empty.
        step: What to do first, or empty.
        text: Sentence about conditions of status feeds; ``{when}`` is the time of the first,
            ``{subjects}`` how many.
        subject: What they are about.
        suffix: What follows the name of each.
        unless: Kinds of conditions of the same account that say more.
        warn_after: Seconds after the time of a condition from which it is a problem, rather than
            only of interest.
        bad_after: The same for a critical one.
    """

    noun: str
    runbook: str = ""
    command: str = ""
    step: str = ""
    text: str = ""
    subject: str = "account"
    suffix: str = ""
    unless: tuple[str, ...] = ()
    warn_after: float = -math.inf
    bad_after: float = math.inf


COOLDOWN = (
    "in cooldown after failed posts; what was scheduled until its end has failed, schedule it again"
)
OVERDUE = "a post that was due {when} is still"
UNREAD = (
    "only the lists of API generation zernio get new logs, but those of late are read; "
    "restart with --api.generation zernio"
)
CHECK = "late-exporter check"
OVERDUE_POSTS = "late-exporter posts --overdue"
FAILED_POSTS = "late-exporter posts --failed"
POSTS_AT_RISK = "late-exporter posts --at-risk"
ACCOUNTS = "late-exporter accounts"
KEYS_URL = "https://zernio.com/dashboard/api-keys"
PLAN_STEP = "Open the billing page of Zernio; until then nothing is published."
CONNECT_STEP = "Connect it again in Zernio."
KINDS = {
    "inactive": Kind(
        noun="suspended plan",
        runbook="LatePlanStopsPosts",
        command=CHECK,
        step=PLAN_STEP,
        text="the plan is suspended or gives no access",
        bad_after=-math.inf,
    ),
    "scheduled": Kind(
        noun="overdue post",
        runbook="LatePostsOverdue",
        command=OVERDUE_POSTS,
        text=f"{OVERDUE} scheduled",
        warn_after=thresholds.POSTS_OVERDUE_SECONDS,
        bad_after=thresholds.POSTS_OVERDUE_CRITICAL_SECONDS,
    ),
    "publishing": Kind(
        noun="unfinished post",
        runbook="LatePostStuck",
        command=OVERDUE_POSTS,
        step="On Instagram, Zernio may try again for 8.5 hours.",
        text=f"{OVERDUE} publishing",
    ),
    "pending_approval": Kind(
        noun="unapproved post",
        runbook="LateApprovalOverdue",
        step="Approve or reschedule it in Zernio.",
        text=f"{OVERDUE} pending approval",
    ),
    "at_risk": Kind(
        noun="account with posts at risk",
        runbook="LatePostsAtRisk",
        command=POSTS_AT_RISK,
        step=CONNECT_STEP,
        text="{subjects} cannot publish what is due within 24 h",
        suffix=", due {when}",
        bad_after=-math.inf,
    ),
    "platform": Kind(noun="failing platform", runbook="LatePlatformFailing", command=FAILED_POSTS),
    "key": Kind(
        noun="rejected key",
        runbook="LatePollStale",
        command=CHECK,
        step=f"Make a new read-only key at {KEYS_URL}, and write it to the key file.",
    ),
    "feed": Kind(noun="polling problem", runbook="LatePollStale", command=CHECK),
    "generation": Kind(noun="unread list", runbook="LateGenerationUnread", command=CHECK),
    "clock": Kind(
        noun="wrong clock",
        runbook="LateClockSkew",
        command=CHECK,
        step="Synchronize the clock of this host.",
    ),
    "pending": Kind(
        noun="stuck post",
        runbook="LatePostStuck",
        command="late-exporter logs --status pending --since 7d",
    ),
    "blocked": Kind(
        noun="blocked account",
        runbook="LateAccountCannotPost",
        command=ACCOUNTS,
        text="{subjects} cannot post",
    ),
    "reconnect": Kind(
        noun="disconnected account",
        runbook="LateAccountDisconnected",
        command=ACCOUNTS,
        step=CONNECT_STEP,
        text="{subjects} must be connected again",
        unless=("at_risk",),
    ),
    "token": Kind(
        noun="expiring token",
        runbook="LateTokenExpiring",
        command=ACCOUNTS,
        step=CONNECT_STEP,
        text="{subjects} must be renewed",
        subject="token",
        suffix=", expiry {when}",
        unless=("at_risk", "reconnect"),
        warn_after=-thresholds.TOKEN_LEFT_WARNING_SECONDS,
    ),
    "cooldown": Kind(
        noun="cooldown",
        runbook="LateAccountCoolingDown",
        command=FAILED_POSTS,
        text=f"{{subjects}} {COOLDOWN}",
        suffix=", which ends {when}",
    ),
    "account": Kind(noun="failing account", runbook="LateAccountFailing", command=FAILED_POSTS),
    "messaging": Kind(
        noun="restricted account",
        runbook="LateAccountCannotPost",
        command=ACCOUNTS,
        step="Resolve it at the platform, such as in the WhatsApp Manager.",
        text="messages of {subjects} are restricted by the platform",
    ),
    "balance": Kind(
        noun="empty balance",
        runbook="LatePlanStopsPosts",
        step=PLAN_STEP,
        text="pay-per-use has stopped",
    ),
    "limit": Kind(
        noun="plan limit",
        runbook="LatePlanLimitNear",
        step="Delete what is not needed, or choose a larger plan.",
        text="little or nothing is left of the plan",
    ),
    "webhook": Kind(
        noun="disabled webhook",
        runbook="LateWebhookFailing",
        step="Repair its receiver, and switch it on in Zernio.",
        text="{subjects} switched off",
        subject="webhook",
    ),
    "status_feed": Kind(noun="failing status feed", runbook="LateRequestsFailing", command=CHECK),
    "reload": Kind(
        noun="failed reload",
        runbook="LateReloadFailed",
        step="Correct the configuration, and reload again.",
    ),
    "analytics": Kind(
        noun="account without analytics",
        command=ACCOUNTS,
        text="analytics of {subjects} are not up to date; posts are not affected",
        warn_after=math.inf,
    ),
    "plan": Kind(noun="plan", text="the plan", warn_after=math.inf),
}
"""Kinds of findings; among equally severe ones, the worst first."""


class Subject(msgspec.Struct, frozen=True):
    """What a finding is about: its name, what follows the name, and its id if it is an account."""

    name: str
    detail: str = ""
    id: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in one or more workspaces that needs attention.

    Args:
        kind: As in KINDS.
        tone: As severe as the alert: bad or warn; another one if it is only of interest.
        text: Sentence that begins in lower case.
        cause: Sentence about all workspaces with the same cause, which share a finding; empty if
            each has its own.
        subjects: What it is about, at most MAX_SUBJECTS.
        count: Number of all subjects.
        workspaces: Names of the workspaces; empty if it is about the exporter.
        workspace_count: Number of all workspaces that it is about.
    """

    kind: str
    tone: str
    text: str
    cause: str = ""
    subjects: tuple[Subject, ...] = ()
    count: int = 0
    workspaces: tuple[str, ...] = ()
    workspace_count: int = 0

    @property
    def wording(self) -> Kind:
        return KINDS[self.kind]

    @property
    def line(self) -> str:
        """The sentence with the first subjects."""
        line = self.text
        if self.subjects:
            line += f": {', '.join(each.name + each.detail for each in self.subjects)}"
        if self.count > len(self.subjects):
            line += f" and {self.count - len(self.subjects):,} more"
        return line


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What the status page shows, as JSON, for ``late-exporter status``.

    Args:
        now: Unix time in seconds.
        workspaces: Those with the worst findings first.
        workspace_count: Number of all workspaces.
        findings: Everything found in the workspaces, worst first.
    """

    version: str
    now: float
    workspaces: tuple[WorkspaceHealth, ...]
    workspace_count: int = 0
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
        reload_error: str = "",
    ) -> Self:
        """Return the document of some workspaces; ``now`` is in Unix seconds."""
        findings = [
            replace(finding, workspaces=(each.name,), workspace_count=1)
            for each in workspaces
            for finding in _find_in(each, each.api_time(now))
        ]
        findings = _join_by_cause(findings)
        if reload_error:
            text = (
                "the last reload failed, and the configuration before is in force: "
                f"{single_line(reload_error)}"
            )
            findings.append(Finding(kind="reload", tone="warn", text=text))
        kinds = list(KINDS)
        findings.sort(key=lambda each: (TONES.index(each.tone), kinds.index(each.kind)))

        by_name = {each.name: each for each in workspaces}
        names = dict.fromkeys(name for each in findings for name in each.workspaces)
        return cls(
            version=version,
            now=now,
            workspaces=tuple(by_name[name] for name in names),
            workspace_count=len(workspaces),
            findings=tuple(findings),
            cluster=cluster,
        )

    def shorten(self, count: int) -> StatusDocument:
        """Return the document with the ``count`` worst workspaces, and fewer findings."""
        names = max(count, MIN_FINDINGS)
        findings = [
            replace(each, workspaces=each.workspaces[:names]) for each in self.findings[: 2 * names]
        ]
        return replace(self, workspaces=self.workspaces[:count], findings=tuple(findings))

    def to_json(self) -> bytes:
        # Not msgspec's encoder: names of the API may contain what UTF-8 cannot encode.
        text = json.dumps(msgspec.to_builtins(self), ensure_ascii=False)
        return text.encode("utf-8", "replace")

    def sentence(self, finding: Finding) -> str:
        """Return what a finding says, beginning with its workspace if there are several."""
        place = self.place(finding)
        return f"{place}: {finding.text}" if place else as_sentence(finding.text)

    def command(self, finding: Finding) -> str:
        """Return the command that shows more about a finding; empty if there is none."""
        command = finding.wording.command
        if command and self.workspace_count > 1 and finding.workspace_count == 1:
            command += f" --workspace {finding.workspaces[0]}"
        return command

    def place(self, finding: Finding) -> str:
        """Return the workspace of a finding, or how many it has; empty if there is only one."""
        count = finding.workspace_count
        if self.workspace_count <= 1 or not count:
            return ""
        if count == 1:
            return finding.workspaces[0]
        return f"{count:,} of {self.workspace_count:,} workspaces"


def _join_by_cause(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings of which those of many workspaces with the same cause are joined."""
    joined: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        key = (finding.kind, finding.tone, finding.cause or (finding.workspaces, finding.text))
        if key in joined:
            workspaces = joined[key].workspaces + finding.workspaces
            joined[key] = replace(
                finding,
                text=finding.cause,
                workspaces=workspaces,
                workspace_count=len(workspaces),
            )
        else:
            joined[key] = finding
    return list(joined.values())


def problems_in(findings: Iterable[Finding]) -> Sequence[Finding]:
    return [each for each in findings if each.tone in ("bad", "warn")]


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
    failed = sum(each.failed for each in recent)
    final = sum(each.final for each in recent)
    if final and not problems_in(document.findings):
        text = f"publishing works: {failed:,} of {final:,} attempts failed"
        yield Finding(kind="platform", tone="ok", text=text)


def as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _find_in(workspace: WorkspaceHealth, now: float) -> Iterator[Finding]:
    billing = [each for each in workspace.status.feeds if each.name == BILLING]
    plan_as_of = billing[0].last_success if billing else None
    has_attempts = any(each.recent.final for each in workspace.platforms)
    for finding in condition_findings(workspace.status.conditions, now, plan_as_of):
        if finding.kind == "scheduled" and finding.tone == "bad" and has_attempts:
            # The alert is critical only if nothing is published at all.
            yield replace(finding, tone="warn")
        else:
            yield finding
    for platform in workspace.platforms:
        yield from _platform_findings(platform, workspace.recent_since, now)
    yield from _account_findings(workspace)
    yield from _feed_findings(workspace)
    if abs(workspace.clock_offset) > thresholds.CLOCK_OFFSET_SECONDS:
        difference = verdicts.clock_difference(workspace.clock_offset)
        text = f"the clock of this host is {difference} the API"
        yield Finding(kind="clock", tone="warn", text=text, cause=text)


def condition_findings(
    conditions: Sequence[Condition], now: float, plan_as_of: float | None = None
) -> Iterator[Finding]:
    """Yield what the status feeds of a workspace report, with the age of plan data.

    Times are in Unix seconds.
    """
    kinds_of = defaultdict[str, set[str]](set)
    for each in conditions:
        kinds_of[each.subject].add(each.kind)
    current = [each for each in conditions if each.kind != "cooldown" or each.at > now]
    current.sort(key=lambda each: each.at)
    for kind, wording in KINDS.items():
        matches = [each for each in current if each.kind == kind]
        if wording.unless:
            matches = [e for e in matches if kinds_of[e.subject].isdisjoint(wording.unless)]
        if matches:
            finding = _condition_finding(kind, matches, now)
            if kind in ("inactive", "balance", "limit", "plan") and plan_as_of is not None:
                age = verdicts.relative_time(plan_as_of, now, coarse=True)
                finding = replace(finding, text=f"{finding.text} (as of {age})")
            yield finding


def _condition_finding(kind: str, conditions: Sequence[Condition], now: float) -> Finding:
    """Return what some conditions of a kind, earliest first, have in common."""
    wording = KINDS[kind]
    text = wording.text.format(
        when=verdicts.relative_time(conditions[0].at, now, coarse=True),
        subjects=plural(len(conditions), wording.subject),
    )
    subjects: list[Subject] = []
    for each in conditions:
        if each.name and len(subjects) < MAX_SUBJECTS:
            detail = f": {single_line(each.text)}" if each.text else ""
            when = verdicts.relative_time(each.at, now, coarse=True)
            detail += wording.suffix.format(when=when)
            subjects.append(Subject(single_line(each.name), detail, each.subject))

    age = now - conditions[0].at
    tone = "ok"
    if age > wording.bad_after:
        tone = "bad"
    elif age > wording.warn_after:
        tone = "warn"
    return Finding(
        kind=kind,
        tone=tone,
        text=text,
        cause=text if kind == "inactive" else "",
        subjects=tuple(subjects),
        count=len(conditions) if subjects else 0,
    )


def _platform_findings(
    platform: PlatformHealth, recent_since: float | None, now: float
) -> Iterator[Finding]:
    tone = verdicts.platform_tone(platform)
    recent = platform.recent
    name = short_name(platform.name)
    if tone != "ok":
        window = verdicts.window_name(recent_since or 0.0, now).lower()
        share = "most" if recent.is_failing else "many"
        yield Finding(
            kind="platform",
            tone=tone,
            text=f"{recent.failed:,} of {recent.final:,} attempts on {name} failed in the {window}",
            cause=f"{share} attempts on {name} fail",
        )
    if verdicts.is_stuck(platform, now) and platform.oldest_pending is not None:
        age = human_duration(now - platform.oldest_pending)
        text = f"a post on {name} has been pending for {age}"
        subjects = (Subject(platform.oldest_post),) if platform.oldest_post else ()
        yield Finding(kind="pending", tone="warn", text=text, subjects=subjects)


def _account_findings(workspace: WorkspaceHealth) -> Iterator[Finding]:
    """Yield a finding about the accounts whose alert fires.

    As with the alert, there is none if most attempts on their platform fail, or if they cannot
    post anyway.
    """
    explained = {each.name for each in workspace.platforms if each.recent.is_failing}
    explained |= {each.subject for each in workspace.status.conditions if each.kind in ACCOUNT_LOST}
    accounts = [
        each
        for each in workspace.failing_accounts
        if explained.isdisjoint((each.platform, each.account_id))
    ]
    if accounts:
        count = plural(len(accounts), "account")
        yield Finding(
            kind="account",
            tone="warn",
            text=f"{count} failed {thresholds.CONSECUTIVE_FAILURES} times or more in a row",
            subjects=tuple(
                Subject(
                    short_name(each.username or each.account_id),
                    f" ({short_name(each.platform)})",
                    each.account_id,
                )
                for each in accounts[:MAX_SUBJECTS]
            ),
            count=len(accounts),
        )


def _feed_findings(workspace: WorkspaceHealth) -> Iterator[Finding]:
    """Yield one finding per cause of failures, which feeds share, or else how polling is."""
    failing = [
        feed for feed in workspace.feeds if verdicts.polling_state(feed) is PollingState.FAILING
    ]
    if not failing:
        yield _polling_finding(workspace.feeds)
    causes = _by_cause(failing)
    for cause, feeds in causes.items():
        kind = "key" if feeds[0].outcome == "unauthorized" else "feed"
        is_workspace = len(feeds) == len(workspace.feeds)
        text = cause if is_workspace else f"{_names_of('feed', feeds)} failed: {cause}"
        yield Finding(kind=kind, tone="bad", text=text, cause=text)
    outdated = [Subject(short_name(feed.name)) for feed in workspace.feeds if feed.is_outdated]
    if outdated:
        yield Finding(kind="generation", tone="warn", text=UNREAD, subjects=tuple(outdated))

    failed = [feed for feed in workspace.status.feeds if feed.error]
    for cause, status_feeds in _by_cause(failed).items():
        if cause not in causes:
            text = f"{_names_of('status feed', status_feeds)} failed: {cause}"
            tone = "warn"
            if all(feed.disabled_reason for feed in status_feeds):
                text += "; tried again every few minutes"
                tone = "ok"
            yield Finding(kind="status_feed", tone=tone, text=text, cause=text)


def _polling_finding(feeds: Sequence[FeedHealth]) -> Finding:
    """Return how the polling of feeds is."""
    if not feeds:
        return Finding(kind="feed", tone="idle", text="no feed is polled by this process")
    statuses = [verdicts.polling_state(feed) for feed in feeds]
    worst = min(statuses, key=list(PollingState).index)
    count = statuses.count(worst)
    total = plural(len(statuses), "feed")
    text = f"{count:,} of {total} {'is' if count == 1 else 'are'} {worst.predicate}"
    return Finding(kind="feed", tone=worst.tone, text=text)


def _by_cause(feeds: Iterable[FeedT]) -> Mapping[str, list[FeedT]]:
    """Return feeds by their error, without the id of the request, which always differs."""
    found: dict[str, list[FeedT]] = {}
    for feed in feeds:
        cause = re.sub(r" \(request id [^()]*\)$", "", single_line(feed.error))
        found.setdefault(cause, []).append(feed)
    return found


def _names_of(noun: str, feeds: Sequence[FeedHealth | StatusFeedHealth]) -> str:
    names = ", ".join(short_name(feed.name) for feed in feeds)
    return f"{noun}s {names}" if len(feeds) > 1 else f"{noun} {names}"
