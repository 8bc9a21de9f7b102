"""Findings: what is wrong in the workspaces, worst first, for the status page and the command ``status``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from late_exporter.format import human_duration, plural
from late_exporter.status import AccountHealth, Condition, PlatformHealth, WorkspaceHealth
from late_exporter.web.verdicts import (
    HOUR,
    MAX_NAME_LENGTH,
    TONES,
    FeedStatus,
    Verdict,
    feed_status,
    is_stuck,
    platform_tone,
    problem_text,
    relative_time,
    single_line,
    summarize,
    window_name,
    worst_first,
)

DAY = 24 * HOUR
MAX_NAMES = 5

FAILURES_IN_A_ROW = 5
"""Failed attempts of an account in a row; as in LateAccountFailing."""

COOLDOWN = "in cooldown after failed posts; what was scheduled until its end has failed, schedule it again"


class Kind(NamedTuple):
    """Wording and severity of a kind of findings.

    Attributes:
        noun: What a summary counts, in the singular.
        one: Sentence about one condition of a status feed; ``{when}`` is its time.
        several: Sentence about several of them.
        suffix: What follows the name of each.
        warn_after: Seconds after the time of a condition from which it is a problem, rather than only of interest.
        bad_after: The same for a critical one.
    """

    noun: str
    one: str = ""
    several: str = ""
    suffix: str = ""
    warn_after: float = -math.inf
    bad_after: float = math.inf


OVERDUE = "a post that was due {when} is still"
KINDS = {
    "inactive": Kind("suspended plan", "the plan is suspended or gives no access", bad_after=-math.inf),
    "scheduled": Kind("overdue post", f"{OVERDUE} scheduled", bad_after=HOUR),
    "publishing": Kind("overdue post", f"{OVERDUE} publishing"),
    "pending_approval": Kind("unapproved post", f"{OVERDUE} pending approval"),
    "platform": Kind("failing platform"),
    "feed": Kind("polling problem"),
    "pending": Kind("stuck post"),
    "blocked": Kind("blocked account", "1 account cannot post", "{count} accounts cannot post"),
    "reconnect": Kind(
        "disconnected account", "1 account must be connected again", "{count} accounts must be connected again"
    ),
    "token": Kind(
        "expiring token",
        "1 token expires soon",
        "{count} tokens expire soon",
        ", {when}",
        warn_after=-7 * DAY,
        bad_after=-DAY,
    ),
    "cooldown": Kind(
        "cooldown", f"1 account is {COOLDOWN}", f"{{count}} accounts are {COOLDOWN}", ", which ends {when}"
    ),
    "account": Kind("failing account"),
    "balance": Kind("empty balance", "pay-per-use has stopped"),
    "limit": Kind("plan limit", "little or nothing is left of the plan", "little or nothing is left of the plan"),
    "webhook": Kind("disabled webhook", "1 webhook is switched off", "{count} webhooks are switched off"),
    "status_feed": Kind("failing status feed"),
    "plan": Kind("plan", "the plan", "the plan", warn_after=math.inf),
}
"""Kinds of findings; among equally severe ones, the worst first."""

RANKS = {kind: rank for rank, kind in enumerate(KINDS)}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a workspace that needs attention.

    Args:
        kind: As in KINDS.
        tone: As severe as the alert: bad or warn; ok if it is only of interest.
        text: Sentence that begins in lower case.
        names: What it is about.
    """

    kind: str
    tone: str
    text: str
    names: tuple[str, ...] = ()
    workspace: str = ""

    @property
    def severity(self) -> tuple[int, int]:
        """Key to sort by, worst first."""
        return TONES.index(self.tone), RANKS[self.kind]

    @property
    def line(self) -> str:
        """The sentence with the first names."""
        names, more = ", ".join(self.names[:MAX_NAMES]), len(self.names) - MAX_NAMES
        return f"{self.text}{names and ': '}{names}{f' and {more:,} more' if more > 0 else ''}"


def find(workspaces: Iterable[WorkspaceHealth], now: float) -> Sequence[Finding]:
    """Return all findings, worst first, with those that are only of interest; ``now`` is in Unix seconds."""
    return sorted(chain.from_iterable(_find_in(each, now) for each in workspaces), key=lambda each: each.severity)


def problems(findings: Iterable[Finding]) -> Sequence[Finding]:
    return [each for each in findings if each.tone != "ok"]


def verdicts_of(workspaces: Sequence[WorkspaceHealth], findings: Sequence[Finding]) -> Sequence[Verdict]:
    """Return the verdicts about workspaces and all their findings, the worst one first."""
    verdicts, found = [], problems(findings)
    statuses = [feed_status(feed) for workspace in workspaces for feed in workspace.feeds]
    if found:
        verdicts.append(_summary(found, is_named=len(workspaces) > 1))
    if FeedStatus.FAILING not in statuses:
        verdicts.append(Verdict(*summarize(statuses)))
    recent = [platform.recent for workspace in workspaces for platform in workspace.platforms]
    failed, final = sum(each.failed for each in recent), sum(each.final for each in recent)
    if final and not found:
        failures = f"{failed:,} of {final:,}" if failed else f"none of {final:,}"
        verdicts.append(Verdict("ok", f"Publishing works: {failures} attempts failed"))
    return sorted(verdicts, key=lambda each: TONES.index(each.tone))


def _summary(found: Sequence[Finding], *, is_named: bool) -> Verdict:
    """Return the worst problem, and how many others there are of each kind."""
    worst, counts = found[0], Counter[str]()
    for each in found[1:]:
        counts[KINDS[each.kind].noun] += max(len(each.names), 1)
    text = f"{worst.workspace}: {worst.text}" if is_named else as_sentence(worst.text)
    return Verdict(worst.tone, text, ", ".join(plural(count, noun) for noun, count in counts.items()))


def as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _find_in(workspace: WorkspaceHealth, now: float) -> Iterator[Finding]:
    found = chain(
        condition_findings(workspace.status.conditions, now),
        *(_platform_findings(each, workspace.recent_since, now) for each in worst_first(workspace.platforms)),
        _account_findings(workspace.failing_accounts),
        _feed_findings(workspace),
    )
    return (msgspec.structs.replace(each, workspace=workspace.name) for each in found)


def condition_findings(conditions: Sequence[Condition], now: float) -> Iterator[Finding]:
    """Yield what the status feeds of a workspace report; ``now`` is in Unix seconds."""

    def complete(text: str, condition: Condition) -> str:
        return text.format(count=f"{len(matches):,}", when=relative_time(condition.at, now, coarse=True))

    for kind, wording in KINDS.items():
        matches = [each for each in conditions if each.kind == kind and (kind != "cooldown" or each.at > now)]
        if matches:
            matches.sort(key=lambda each: each.at)
            names = [single_line(f"{it.name}: {it.text}".rstrip(": ")) + complete(wording.suffix, it) for it in matches]
            age = now - matches[0].at
            tone = "bad" if age > wording.bad_after else "warn" if age > wording.warn_after else "ok"
            text = complete(wording.several if len(matches) > 1 else wording.one, matches[0])
            yield Finding(kind=kind, tone=tone, text=text, names=tuple(name for name in names if name))


def _platform_findings(platform: PlatformHealth, recent_since: float | None, now: float) -> Iterator[Finding]:
    tone, recent, name = platform_tone(platform), platform.recent, single_line(platform.name, MAX_NAME_LENGTH)
    if tone != "ok":
        window = window_name(recent_since or 0.0, now).lower()
        text = f"{recent.failed:,} of {recent.final:,} attempts on {name} failed in the {window}"
        yield Finding(kind="platform", tone=tone, text=text)
    if is_stuck(platform, now) and platform.oldest_pending is not None:
        age = human_duration(now - platform.oldest_pending, rough=True)
        yield Finding(kind="pending", tone="warn", text=f"a post on {name} has been pending for {age}")


def _account_findings(accounts: Sequence[AccountHealth]) -> Iterator[Finding]:
    """Yield one finding about the accounts whose alert fires, and one about others whose last attempt failed."""
    for tone, what in ("warn", f"failed {FAILURES_IN_A_ROW} times or more in a row"), ("ok", "failed the last publish"):
        names = [
            single_line(each.username or each.account_id, MAX_NAME_LENGTH)
            + f" ({single_line(each.platform, MAX_NAME_LENGTH)})"
            for each in accounts
            if (each.consecutive_failures >= FAILURES_IN_A_ROW) == (tone == "warn")
        ]
        if names:
            text = f"{plural(len(names), 'account')} {what}"
            yield Finding(kind="account", tone=tone, text=text, names=tuple(names))


def _feed_findings(workspace: WorkspaceHealth) -> Iterator[Finding]:
    """Yield one finding per cause; feeds that fail for the same one share it."""
    causes: dict[str, list[str]] = {}
    for feed in workspace.feeds:
        if feed_status(feed) is FeedStatus.FAILING:
            causes.setdefault(_without_request_id(problem_text(feed)), []).append(feed.name)
    for cause, names in causes.items():
        subject = _subject(names, "feed", is_all=len(names) == len(workspace.feeds))
        yield Finding(kind="feed", tone="bad", text=f"{subject}: {cause}")
    status_causes: dict[str, list[str]] = {}
    for status_feed in workspace.status.feeds:
        cause = _without_request_id(single_line(status_feed.error))
        if status_feed.disabled_reason:
            text = f"status feed {status_feed.name} is off, and tried again hourly: {cause}"
            yield Finding(kind="status_feed", tone="ok", text=text)
        elif cause and cause not in causes:
            status_causes.setdefault(cause, []).append(status_feed.name)
    for cause, names in status_causes.items():
        yield Finding(kind="status_feed", tone="warn", text=f"{_subject(names, 'status feed')}: {cause}")


def _subject(names: Sequence[str], noun: str, *, is_all: bool = False) -> str:
    if is_all:
        return {1: f"the {noun} fails", 2: f"both {noun}s fail"}.get(len(names), f"all {len(names):,} {noun}s fail")
    listed = ", ".join(single_line(name, MAX_NAME_LENGTH) for name in names)
    return f"{noun} {listed} fails" if len(names) == 1 else f"{noun}s {listed} fail"


def _without_request_id(error: str) -> str:
    """Return an error without the part that differs in every request."""
    return re.sub(r" \(request id [^()]*\)$", "", error)
