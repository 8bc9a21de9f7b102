"""Findings: what is wrong in the workspaces, worst first, for page and command ``status``."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self, TypeVar

import msgspec
from msgspec.structs import replace

from late_exporter import thresholds
from late_exporter.format import human_duration, plural
from late_exporter.health import (
    ClusterHealth,
    Condition,
    Failure,
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
POSTS = "posts"

FeedT = TypeVar("FeedT", FeedHealth, StatusFeedHealth)

PLAN_KINDS = ("inactive", "used_up", "balance", "limit", "plan")
"""Kinds of conditions of the plan, whose age is said."""

PLATFORM_KINDS = ("platform", "nothing_published", "platform_attempts")
"""Kinds of findings about platforms on which attempts fail."""

ACCOUNT_LOST = ("at_risk", "reconnect", "blocked")
"""Kinds of conditions that explain why the posts of an account fail."""


class Kind(NamedTuple):
    """Wording and severity of a kind of findings.

    Attributes:
        noun: What one of it is called where problems are counted.
        tone: As severe as its alert, bad or warn; ok if it is only of interest.
        runbook: Runbook of its alert.
        runbook_of_many: Runbook of the alert about many workspaces with the same cause.
        command: Command that shows more, or empty.
        step: What to do first, or empty.
        text: Sentence about conditions of status feeds; ``{when}`` is the time of the first,
            ``{subjects}`` how many.
        subject: What they are about.
        suffix: What follows the name of each.
        unless: Kinds of conditions of the same account that say more.
        warn_after: Seconds after the time of a condition from which it is a problem; None if it is
            one at any time.
        bad_after: Seconds after its time from which it is critical; None if it never is.
    """

    noun: str
    tone: str = "warn"
    runbook: str = ""
    runbook_of_many: str = ""
    command: str = ""
    step: str = ""
    text: str = ""
    subject: str = "account"
    suffix: str = ""
    unless: tuple[str, ...] = ()
    warn_after: float | None = None
    bad_after: float | None = None


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
        tone="bad",
        runbook="LatePlanStopsPosts",
        runbook_of_many="LateManyWorkspaces",
        command=CHECK,
        step=PLAN_STEP,
        text="the plan is suspended or gives no access",
    ),
    "used_up": Kind(
        noun="used-up plan",
        tone="bad",
        runbook="LatePlanStopsPosts",
        runbook_of_many="LateManyWorkspaces",
        command=CHECK,
        step=PLAN_STEP,
        text="all uploads of the plan are used, so posts are refused",
    ),
    "unpolled": Kind(
        noun="unpolled workspace", tone="bad", runbook="LateWorkspacesUnpolled", command=CHECK
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
        warn_after=thresholds.POST_STUCK_SECONDS,
    ),
    "pending_approval": Kind(
        noun="unapproved post",
        runbook="LatePostsOverdue",
        command=OVERDUE_POSTS,
        step="Approve or reschedule it in Zernio.",
        text=f"{OVERDUE} pending approval",
        warn_after=thresholds.APPROVAL_OVERDUE_SECONDS,
    ),
    "at_risk": Kind(
        noun="account with posts at risk",
        tone="bad",
        runbook="LatePostsAtRisk",
        command=POSTS_AT_RISK,
        step=CONNECT_STEP,
        text="{subjects} cannot publish what is due within 24 h",
        suffix=", due {when}",
    ),
    "platform_down": Kind(
        noun="platform that is down", tone="bad", runbook="LatePlatformDown", command=FAILED_POSTS
    ),
    "platform": Kind(
        noun="failing platform", tone="bad", runbook="LatePlatformFailing", command=FAILED_POSTS
    ),
    "nothing_published": Kind(
        noun="stop of publishing",
        tone="bad",
        runbook="LateNothingPublished",
        runbook_of_many="LateManyWorkspaces",
        command=f"{FAILED_POSTS} --since 1d",
    ),
    "budget": Kind(
        noun="error budget soon used up",
        tone="bad",
        runbook="LateErrorBudgetBurningFast",
        command=FAILED_POSTS,
    ),
    "key": Kind(
        noun="rejected key",
        tone="bad",
        runbook="LatePollStale",
        runbook_of_many="LateManyWorkspaces",
        command=CHECK,
        step=f"Make a new read-only key at {KEYS_URL}, and write it to the key file.",
    ),
    "feed": Kind(
        noun="polling problem",
        tone="bad",
        runbook="LatePollStale",
        runbook_of_many="LateManyWorkspaces",
        command=CHECK,
    ),
    "failed_posts": Kind(
        noun="account with failed posts",
        runbook="LatePostFailed",
        command=f"{FAILED_POSTS} --since 1d",
        text="posts of {subjects} failed, and were not published since",
        suffix=", due {when}",
    ),
    "unhealed": Kind(
        noun="account with a failed attempt",
        runbook="LatePostFailed",
        command=f"{FAILED_POSTS} --since 1d",
    ),
    "platform_attempts": Kind(
        noun="platform without a published post",
        runbook="LatePostFailed",
        command=f"{FAILED_POSTS} --since 1d",
    ),
    "generation": Kind(noun="unread list", runbook="LateGenerationUnread", command=CHECK),
    "clock": Kind(
        noun="wrong clock",
        runbook="LateClockSkew",
        command=CHECK,
        step="Synchronize the clock of this host.",
    ),
    "api_clock": Kind(
        noun="wrong clock of the API",
        runbook="LateClockSkew",
        command=CHECK,
        step="Contact Zernio's support: the API of another workspace has another time.",
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
        tone="ok",
        runbook="LateAccountCannotPost",
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
        runbook="LatePlanLimitNear",
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
    "webhook_failing": Kind(
        noun="failing webhook",
        runbook="LateWebhookFailing",
        command="late-exporter logs --feed webhooks --status failed --since 1d",
        step="Repair its receiver.",
        text="{subjects} failed "
        f"{thresholds.WEBHOOK_FAILURES} times or more in a row for over an hour",
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
        tone="ok",
        command=ACCOUNTS,
        text="analytics of {subjects} are not up to date; posts are not affected",
    ),
    "plan": Kind(noun="plan", tone="ok", text="the plan"),
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
        platforms: Platforms on which the attempts fail, if it is about that.
    """

    kind: str
    tone: str
    text: str
    cause: str = ""
    subjects: tuple[Subject, ...] = ()
    count: int = 0
    workspaces: tuple[str, ...] = ()
    workspace_count: int = 0
    platforms: tuple[str, ...] = ()

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
        findings = _join_by_cause([*_join_platforms(findings, workspaces), *_clocks(workspaces)])
        if cluster is not None and cluster.unowned_workspaces:
            count = plural(len(cluster.unowned_workspaces), "workspace")
            findings.append(_finding("unpolled", f"no replica polls {count}"))
        if reload_error:
            text = (
                "the last reload failed, and the configuration before is in force: "
                f"{single_line(reload_error)}"
            )
            findings.append(_finding("reload", text))
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

    def runbook(self, finding: Finding) -> str:
        """Return the runbook of the alert of a finding, or of the one that holds it back."""
        wording = finding.wording
        count = finding.workspace_count
        is_many = (
            finding.tone == "bad"
            and count >= thresholds.MANY_WORKSPACES
            and count > thresholds.MANY_WORKSPACES_SHARE * self.workspace_count
        )
        return (is_many and wording.runbook_of_many) or wording.runbook

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


def _join_platforms(
    findings: Sequence[Finding], workspaces: Sequence[WorkspaceHealth]
) -> Iterator[Finding]:
    """Yield findings, with one for each platform that is down in place of those of workspaces."""
    down = dict(_platforms_down(workspaces))
    for platform, names in down.items():
        text = f"most attempts on {short_name(platform)} fail"
        yield replace(_finding("platform_down", text), workspaces=names, workspace_count=len(names))
    for finding in findings:
        is_of_platform = finding.kind in PLATFORM_KINDS
        if not (is_of_platform and {*finding.platforms} <= down.keys()):
            yield finding


def _platforms_down(
    workspaces: Sequence[WorkspaceHealth],
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the platforms on which most attempts fail in some workspaces, with their names."""
    failing = defaultdict[str, list[str]](list)
    failed = Counter[str]()
    final = Counter[str]()
    for workspace in workspaces:
        for platform in workspace.platforms:
            recent = platform.recent
            failed[platform.name] += recent.failed
            final[platform.name] += recent.final
            is_small = recent.final < thresholds.PLATFORM_ATTEMPTS
            if recent.is_failing or (is_small and _is_most(recent.failed, recent.final)):
                failing[platform.name].append(workspace.name)
    for name, places in failing.items():
        is_most = _is_most(failed[name], final[name])
        has_attempts = final[name] >= thresholds.PLATFORM_ATTEMPTS
        if is_most and has_attempts and len(places) >= thresholds.PLATFORM_DOWN_WORKSPACES:
            yield name, tuple(places)


def _is_most(failed: int, final: int) -> bool:
    return failed > thresholds.PLATFORM_FAILED_SHARE * final


def _clocks(workspaces: Sequence[WorkspaceHealth]) -> Iterator[Finding]:
    """Yield a finding about each workspace whose API has another time than this host.

    If the APIs of two workspaces have different times, one of them is wrong rather than the host.
    """
    offsets = [
        each.clock_offset
        for each in workspaces
        if each.clock_offset or any(feed.last_success is not None for feed in each.feeds)
    ]
    limit = thresholds.CLOCK_OFFSET_SECONDS
    is_same = bool(offsets) and max(offsets) - min(offsets) <= limit
    for each in workspaces:
        if abs(each.clock_offset) <= limit:
            continue
        if is_same:
            difference = verdicts.clock_difference(each.clock_offset)
            finding = _finding("clock", f"the clock of this host is {difference} the API")
        else:
            difference = verdicts.clock_difference(-each.clock_offset)
            finding = _finding("api_clock", f"the clock of the API is {difference} this host")
        yield replace(finding, cause=finding.text, workspaces=(each.name,), workspace_count=1)


def problems_in(findings: Iterable[Finding]) -> Sequence[Finding]:
    return [each for each in findings if each.tone in ("bad", "warn")]


def working_parts(document: StatusDocument) -> Iterator[Finding]:
    """Yield how polling and publishing are if they work."""
    polling = _polling_finding(
        [feed for workspace in document.workspaces for feed in workspace.feeds]
    )
    if polling.tone != "bad":
        yield polling
    failed, final = _recent_attempts(document.workspaces)
    if final > failed and not problems_in(document.findings):
        text = f"publishing works: {failed:,} of {final:,} attempts failed"
        if failed and all(_is_small(each) for each in document.workspaces):
            text += ", and each account has published since"
        yield Finding(kind="platform", tone="ok", text=text)


def _recent_attempts(workspaces: Iterable[WorkspaceHealth]) -> tuple[int, int]:
    """Return how many attempts failed within the last hour, and how many there were."""
    recent = [platform.recent for workspace in workspaces for platform in workspace.platforms]
    failed = sum(each.failed for each in recent)
    final = sum(each.final for each in recent)
    return failed, final


def _is_small(workspace: WorkspaceHealth) -> bool:
    """Return whether each failed post of a workspace is a problem, rather than the share."""
    return workspace.daily_attempts <= thresholds.SMALL_WORKSPACE_ATTEMPTS


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
        elif finding.kind == "failed_posts" and not _is_small(workspace):
            yield replace(finding, tone="ok")
        else:
            yield finding
    yield from _publishing_findings(workspace, now)
    for platform in workspace.platforms:
        yield from _stuck_post_findings(platform, now)
    yield from _account_findings(workspace)
    yield from _unhealed_findings(workspace, now)
    yield from _feed_findings(workspace)


def _finding(kind: str, text: str, cause: str = "") -> Finding:
    """Return a finding as severe as its kind."""
    return Finding(kind=kind, tone=KINDS[kind].tone, text=text, cause=cause)


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
            if kind in PLAN_KINDS and plan_as_of is not None:
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

    return Finding(
        kind=kind,
        tone=_condition_tone(wording, now - conditions[0].at),
        text=text,
        cause=text if kind == "inactive" else "",
        subjects=tuple(subjects),
        count=len(conditions) if subjects else 0,
    )


def _condition_tone(wording: Kind, age: float) -> str:
    """Return how severe a condition of a kind is, some seconds after its time."""
    if wording.bad_after is not None and age > wording.bad_after:
        return "bad"
    if wording.warn_after is not None and age <= wording.warn_after:
        return "ok"
    return wording.tone


def _publishing_findings(workspace: WorkspaceHealth, now: float) -> Iterator[Finding]:
    """Yield one finding per platform on which posts fail, or one if nothing was published."""
    found = [
        finding
        for platform in workspace.platforms
        for finding in _platform_findings(platform, workspace.recent_since, now)
    ]
    failed, final = _recent_attempts([workspace])
    oldest = now - thresholds.HOUR
    named = {each.platform for each in workspace.unhealed_failures if each.time > oldest}
    is_bad = any(each.tone == "bad" for each in found)
    if failed == final >= thresholds.CONSECUTIVE_FAILED_POSTS and not is_bad:
        yield _nothing_published(workspace, found, now)
        return

    for finding in found:
        # Its accounts are named with their errors.
        is_named = _is_small(workspace) and named.issuperset(finding.platforms)
        if finding.tone == "bad" or not is_named:
            yield finding
    others = workspace.other_attempts
    if others.is_failing and not is_bad:
        window = verdicts.window_name(workspace.recent_since or 0.0, now).lower()
        text = f"{others.failed:,} of {others.final:,} attempts failed in the {window}"
        yield _finding("budget", text, "too many attempts fail")


def _nothing_published(workspace: WorkspaceHealth, found: Sequence[Finding], now: float) -> Finding:
    """Return a finding about all attempts of a workspace, of which each has failed."""
    _, final = _recent_attempts([workspace])
    platforms = tuple(name for each in found for name in each.platforms)
    names = ", ".join(map(short_name, platforms[:MAX_SUBJECTS]))
    window = verdicts.window_name(workspace.recent_since or 0.0, now).lower()
    finding = _finding(
        "nothing_published",
        f"{final:,} of {final:,} attempts on {names} failed in the {window}",
        f"all attempts on {names} fail",
    )
    return replace(finding, platforms=platforms)


def _platform_findings(
    platform: PlatformHealth, recent_since: float | None, now: float
) -> Iterator[Finding]:
    """Yield what is wrong with the attempts on a platform, at most one finding."""
    recent = platform.recent
    name = short_name(platform.name)
    window = verdicts.window_name(recent_since or 0.0, now).lower()
    text = f"{recent.failed:,} of {recent.final:,} attempts on {name} failed in the {window}"
    if recent.is_failing:
        finding = _finding("platform", text, f"most attempts on {name} fail")
    elif verdicts.is_without_success(platform, now):
        text = f"the last {platform.consecutive_failures:,} posts on {name} failed"
        finding = _finding("nothing_published", text, f"nothing is published on {name}")
    elif recent.failed and recent.failed == recent.final:
        finding = _finding("platform_attempts", text, f"all attempts on {name} fail")
    else:
        return
    yield replace(finding, platforms=(platform.name,))


def _stuck_post_findings(platform: PlatformHealth, now: float) -> Iterator[Finding]:
    name = short_name(platform.name)
    if verdicts.is_stuck(platform, now) and platform.oldest_pending is not None:
        age = human_duration(now - platform.oldest_pending)
        text = f"a post on {name} has been pending for {age}"
        subjects = (Subject(platform.oldest_post),) if platform.oldest_post else ()
        yield replace(_finding("pending", text), subjects=subjects)


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
        text = f"{count} failed {thresholds.CONSECUTIVE_FAILURES} times or more in a row"
        yield replace(
            _finding("account", text),
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


def _unhealed_findings(workspace: WorkspaceHealth, now: float) -> Iterator[Finding]:
    """Yield a finding about the accounts of a small workspace whose last attempt failed.

    The list of posts says more, but only after its next refresh, and not to every key.
    """
    if not _is_small(workspace):
        return
    kinds = (*ACCOUNT_LOST, "failed_posts")
    explained = {each.subject for each in workspace.status.conditions if each.kind in kinds}
    explained |= {each.account_id for each in workspace.failing_accounts}
    has_posts = any(each.name == POSTS and each.is_up for each in workspace.status.feeds)
    oldest = now - (thresholds.HOUR if has_posts else thresholds.DAY)
    failures = [
        each
        for each in workspace.unhealed_failures
        if each.time > oldest and each.account_id not in explained
    ]
    if failures:
        count = plural(len(failures), "account")
        yield replace(
            _finding("unhealed", f"the last attempt of {count} failed"),
            subjects=tuple(_failure_subject(each) for each in failures[:MAX_SUBJECTS]),
            count=len(failures),
        )


def _failure_subject(failure: Failure) -> Subject:
    name = short_name(failure.username or failure.account_id)
    post = f" post {short_name(failure.post_id)}," if failure.post_id else ""
    error = single_line(failure.error) or "unknown error"
    detail = f" ({short_name(failure.platform)}):{post} {error}"
    return Subject(name, detail, failure.account_id)


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
        yield _finding(kind, text, text)
    outdated = [Subject(short_name(feed.name)) for feed in workspace.feeds if feed.is_outdated]
    if outdated:
        yield replace(_finding("generation", UNREAD), subjects=tuple(outdated))

    failed = [feed for feed in workspace.status.feeds if feed.error]
    for cause, status_feeds in _by_cause(failed).items():
        if cause not in causes:
            text = f"{_names_of('status feed', status_feeds)} failed: {cause}"
            finding = _finding("status_feed", text, text)
            if all(feed.disabled_reason for feed in status_feeds):
                text += "; tried again every few minutes"
                finding = replace(finding, tone="ok", text=text, cause=text)
            yield finding


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
