"""The row with the log lines of failed posts, for those who send the exporter's log to Loki."""

from __future__ import annotations

from grafana.source import panels
from grafana.source.layout import PanelRow
from grafana.source.panels import PanelFrame

__all__ = ["FAILED_POSTS_ROW"]

FAILED_POSTS = (
    '{job=~"(.+/)?late-exporter"} |= "publishing failed" | logfmt | msg="publishing failed"'
    ' | workspace=~"$workspace" | platform=~"$platform"'
    " | line_format `{{.platform}} {{.action}} of post {{.post_id}} by {{.username}}:"
    " {{.category}} {{.status_code}} {{.error_code}} {{.error}}`"
)

# Collapsed, so that there is no error without Loki: its panels load when the row is opened.
FAILED_POSTS_ROW = PanelRow(
    700,
    "Failed posts (needs Loki)",
    (
        panels.logs_panel(
            PanelFrame(
                701,
                "Failed posts",
                "The failed logs themselves, newest first, if the log of the exporter is sent to Loki with the job"
                " late-exporter. Click a line for all of its fields.",
                24,
                12,
            ),
            FAILED_POSTS,
            no_value="No failures, or no log of the exporter in Loki",
        ),
    ),
    collapsed=True,
)
