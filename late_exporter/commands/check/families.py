"""Check whether the alerts and dashboards of this version need what is not exposed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from late_exporter.commands.assets import find_assets
from late_exporter.commands.check.finding import Finding, Level

MAX_NAMES = 5
"""Number of alerts and dashboards that a finding names."""

_RULE = re.compile(r"^ *- (alert|record): (\S+)$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_BOUND = re.compile(r"\b(late_\w+)_bucket\{[^}]*?\ble=~?\\*\"([0-9.]+)")


class MonitoringAssets:
    """The rules and dashboards of this version: which names of series each alert and dashboard uses."""

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._records: dict[str, frozenset[str]] = {}
        self.bounds: dict[str, set[float]] = {}
        """Bounds of histograms that expressions name, by family."""
        for path, content in files:
            if path.startswith("prometheus/"):
                self._add_rules(content.decode())
            elif path.startswith("grafana/") and path.endswith(".json"):
                self._add_dashboard(content.decode())

    def users_of(self, family: str) -> Sequence[str]:
        """Return the alerts and dashboards that use a family, directly or through recording rules, sorted."""
        affected = {family, *(f"{family}_{suffix}" for suffix in ("bucket", "count", "sum"))}
        size = 0
        while size != len(affected):
            size = len(affected)
            affected |= {record for record, names in self._records.items() if not names.isdisjoint(affected)}
        return sorted(user for user, names in self._names.items() if not names.isdisjoint(affected))

    def _add_rules(self, text: str) -> None:
        matches = list(_RULE.finditer(text))
        for match, following in zip(matches, [*matches[1:], None], strict=True):
            rule = text[match.end() : following.start() if following else None]
            expression = rule.split("labels:")[0].split("annotations:")[0]
            rules = self._names if match[1] == "alert" else self._records
            rules[match[2]] = rules.get(match[2], frozenset()) | frozenset(_NAME.findall(expression))
            self._add_bounds(expression)

    def _add_dashboard(self, text: str) -> None:
        title = str(json.loads(text)["title"])
        self._names[f"dashboard {title}"] = frozenset(_NAME.findall(text))
        self._add_bounds(text)

    def _add_bounds(self, text: str) -> None:
        for family, bound in _BOUND.findall(text):
            self.bounds.setdefault(family, set()).add(float(bound))


def check_families(disabled: Sequence[str], buckets: Mapping[str, Sequence[float]]) -> Iterator[Finding]:
    """Warn about disabled families and missing buckets that alerts or dashboards of this version need.

    Args:
        disabled: Names of families.
        buckets: Families with buckets of their own.
    """
    if not disabled and not buckets:
        return
    assets = MonitoringAssets(find_assets())
    for family in disabled:
        users = assets.users_of(family)
        if users:
            yield Finding(
                Level.WARNING,
                "metrics",
                f"{family} is disabled, but used by {_join(users)}",
                hint="drop it from --metrics.disable, or do without them",
            )
        else:
            yield Finding(Level.OK, "metrics", f"{family} is disabled; no alert or dashboard uses it")
    for family, bounds in buckets.items():
        missing = sorted(assets.bounds.get(family, set()) - set(bounds))
        if missing and family not in disabled:
            yield Finding(
                Level.WARNING,
                "metrics",
                f"the buckets of {family} lack {', '.join(f'{bound:g}' for bound in missing)}, which alerts or "
                "dashboards use",
                hint="add them to --metrics.buckets",
            )


def _join(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
