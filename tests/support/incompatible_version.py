"""late-exporter as a version after the newer one would be, whose state only it and the newer one can use."""

from __future__ import annotations

import sys

from late_exporter.store.postgres import schema
from tests.support.newer_version import MIGRATION, run

if __name__ == "__main__":
    sys.exit(run(MIGRATION, "ALTER TABLE late_note ADD COLUMN text text", oldest=len(schema.MIGRATIONS) + 1))
