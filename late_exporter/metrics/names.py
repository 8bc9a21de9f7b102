"""Names of metrics that several modules use."""

LOGS = "late_publishing_logs_total"
PENDING_LOGS = "late_publishing_pending_logs"
OLDEST_PENDING = "late_publishing_oldest_pending_timestamp_seconds"

ENTRIES_REJECTED = "late_exporter_entries_rejected_total"
LABEL_OVERFLOW = "late_exporter_label_overflow_total"
SCHEMA_DRIFT = "late_exporter_api_schema_drift_total"
LAST_POLL = "late_exporter_last_successful_poll_timestamp_seconds"
LAST_RECONCILE = "late_exporter_reconcile_last_completed_timestamp_seconds"
GENERATION_UNREAD = "late_exporter_api_generation_unread"
LAST_AUDIT = "late_exporter_audit_last_completed_timestamp_seconds"
