"""The command ``backfill``: write the history that the API still holds, for Prometheus."""
