"""A Late API to run against, for the demo, for tests, and for people who write alerts without a key."""

from late_exporter.simulator.app import create_app
from late_exporter.simulator.archive import Archive
from late_exporter.simulator.incidents import INCIDENTS
from late_exporter.simulator.service import Answer, Archives, Service
from late_exporter.simulator.world import World

__all__ = ["INCIDENTS", "Answer", "Archive", "Archives", "Service", "World", "create_app"]
