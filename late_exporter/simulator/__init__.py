"""Simulated Zernio API for the demo, for tests, and for writing alerts without an API key."""

from late_exporter.simulator.admin import GENERATIONS
from late_exporter.simulator.asgi import create_simulator
from late_exporter.simulator.incidents import INCIDENTS
from late_exporter.simulator.log_list import LogList
from late_exporter.simulator.service import SimulatedApi, SimulatorResponse, StaticLogs
from late_exporter.simulator.world import RETENTION, ZERNIO_RETENTION, SimulatedWorld

__all__ = [
    "GENERATIONS",
    "INCIDENTS",
    "RETENTION",
    "ZERNIO_RETENTION",
    "LogList",
    "SimulatedApi",
    "SimulatedWorld",
    "SimulatorResponse",
    "StaticLogs",
    "create_simulator",
]
