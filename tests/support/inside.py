"""The exporter of a test with everything that is inside: for tests of the parts of ``ingest`` and ``store``."""

from __future__ import annotations

from typing import Any

import msgspec

from late_exporter.exposition.exposition import Exposition
from late_exporter.ingest.poller import Poller
from late_exporter.metrics.registry import SeriesRegistry
from tests.support.exporter import ExporterHarness, ObservedStore


class InsideHarness(ExporterHarness):
    """An exporter whose parts a test may use."""

    @property
    def store(self) -> ObservedStore:
        return self._store

    @property
    def exposition(self) -> Exposition:
        return self._pipeline.exposition

    @property
    def registry(self) -> SeriesRegistry:
        return self._pipeline.registry

    @property
    def poller(self) -> Poller:
        """Poller of the only feed."""
        (poller,) = self._pollers.values()
        return poller

    def restart(self, downtime: float = 0.0, **changes: Any) -> None:
        """Stop the exporter and start it again, with changes of its configuration."""
        self._config = msgspec.structs.replace(self._config, **changes)
        super().restart(downtime)
