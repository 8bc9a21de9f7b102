"""A Late API to run against, for the demo, for tests, and for people who write alerts without a key."""

from late_exporter.simulator.asgi import create_app
from late_exporter.simulator.incidents import INCIDENTS
from late_exporter.simulator.log_list import Archive
from late_exporter.simulator.service import GENERATIONS, Answer, Archives, Service
from late_exporter.simulator.world import LONG_RETENTION, RETENTION, World

__all__ = [
    "GENERATIONS",
    "INCIDENTS",
    "LONG_RETENTION",
    "RETENTION",
    "Answer",
    "Archive",
    "Archives",
    "Service",
    "World",
    "create_app",
]
