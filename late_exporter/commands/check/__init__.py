"""Whether everything that the exporter needs is there, in words, and what to do where it is not."""

from late_exporter.commands.check.api import check_api
from late_exporter.commands.check.finding import Finding, Level, format_findings
from late_exporter.commands.check.generation import GenerationCheck, check_generation, recorded_generations
from late_exporter.commands.check.local import check_addresses, check_key_file, check_state, check_web

__all__ = [
    "Finding",
    "GenerationCheck",
    "Level",
    "check_addresses",
    "check_api",
    "check_generation",
    "check_key_file",
    "check_state",
    "check_web",
    "format_findings",
    "recorded_generations",
]
