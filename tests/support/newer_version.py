"""late-exporter as a newer version would be, with a further migration that older versions can live with.

The migration locks every table that a commit writes to, and adds what the statements of older versions do not name.
"""

from __future__ import annotations

import sys

from late_exporter.store.postgres import schema

MIGRATION = """
    ALTER TABLE late_scope ADD COLUMN note text;
    ALTER TABLE late_observation ADD COLUMN note text;
    ALTER TABLE late_series ADD COLUMN note text NOT NULL DEFAULT '';
    ALTER TABLE late_workspace ADD COLUMN note text;
    CREATE TABLE late_note (id bigint PRIMARY KEY, workspace text NOT NULL);
    CREATE INDEX late_series_note ON late_series (note)
"""


def run(*migrations: str, oldest: int = schema.OLDEST) -> int:
    """Run the command line with further migrations, and return its exit code.

    Args:
        migrations: Statements of each further schema version.
        oldest: Oldest schema version whose programs can use the state.
    """
    schema.MIGRATIONS = (*schema.MIGRATIONS, *migrations)
    schema.OLDEST = oldest
    from late_exporter.cli import main  # noqa: PLC0415 - other modules copy the migrations when they are imported

    return main()


if __name__ == "__main__":
    sys.exit(run(MIGRATION))
