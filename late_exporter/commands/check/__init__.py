"""Whether everything that the exporter needs is there, in words, and what to do where it is not."""

from late_exporter.commands.check.api import examine_api
from late_exporter.commands.check.finding import Finding, Level, lines
from late_exporter.commands.check.generation import Spoken, examine_generation, generations_of
from late_exporter.commands.check.local import examine_addresses, examine_key_file, examine_state, examine_web

__all__ = [
    "Finding",
    "Level",
    "Spoken",
    "examine_addresses",
    "examine_api",
    "examine_generation",
    "examine_key_file",
    "examine_state",
    "examine_web",
    "generations_of",
    "lines",
]
