"""Simulated Zernio API for the demo, for tests, and for writing alerts without an API key."""

from late_exporter.simulator.customers import simulate_world
from late_exporter.simulator.incidents import INCIDENTS
from late_exporter.simulator.log_list import LogList, StaticLogs
from late_exporter.simulator.service import SimulatedApi
from late_exporter.simulator.world import SimulatedWorld

__all__ = ["INCIDENTS", "LogList", "SimulatedApi", "SimulatedWorld", "StaticLogs", "simulate_world"]
