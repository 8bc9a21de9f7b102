"""Definition of a metric family."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

FamilyKind: TypeAlias = Literal["counter", "gauge", "histogram"]


class Family(msgspec.Struct, frozen=True):
    """Metric family.

    Args:
        name: Sample name; counters end in ``_total``.
        kind: Prometheus type.
        help: One sentence that says what the number means.
        labels: Label names in order, ``workspace`` first if the family has one per workspace.
        buckets: Upper bounds of a histogram in ascending order, without +Inf.
        feeds: Feeds that fill the family. It is hidden for a workspace until one of them has
            completed its first sync; an empty tuple means that it is always visible.
        starts_at_zero: Whether a series that is created after that shows 0 for some time, so that
            Prometheus sees its first increase.
        is_optional: Whether it is exposed only if ``--metrics.enable`` names it.
        is_experimental: Whether its name, labels or meaning may change in any release.
    """

    name: str
    kind: FamilyKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    feeds: tuple[str, ...] = ()
    starts_at_zero: bool = False
    is_optional: bool = False
    is_experimental: bool = False
