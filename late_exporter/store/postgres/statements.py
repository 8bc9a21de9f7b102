"""The statements of a commit. All are sent at once, so none depends on the answer to another."""

from __future__ import annotations

# The constraint ``late_fence`` or a division by zero fails the whole transaction if another process has taken the feed
# over, if the feed is not as this process left it, or if it was removed.
FENCE = """
    WITH fenced AS (
        UPDATE late_scope SET
            revision = CASE WHEN token = %(token)s AND revision = %(revision)s THEN revision + 1 ELSE -1 END,
            last_write = %(number)s
        WHERE id = %(scope)s RETURNING id
    ) SELECT 1 / count(*) FROM fenced
"""

UPDATE_SCOPE = """
    UPDATE late_scope SET
        logs = logs + %(logs)s, observations = observations + %(observations)s,
        coverage = coalesce(%(coverage)s, coverage), progress = coalesce(%(progress)s, progress),
        prune_before = greatest(prune_before, %(prune_before)s), restored = restored AND NOT %(caught_up)s
    WHERE id = %(scope)s
"""

INSERT_OBSERVATIONS = """
    INSERT INTO late_observation (scope, day, key, status, created)
    SELECT %s::integer, * FROM unnest(%b::integer[], %b::bytea[], %b::bytea[], %b::bigint[])
"""

QUEUE_EVENTS = "INSERT INTO late_event (scope, queued, body) SELECT %s::integer, %s::bigint, * FROM unnest(%b::bytea[])"

ADD_PENDING = """
    INSERT INTO late_pending (scope, key, created, platform, action, post_id)
    SELECT %s::integer, * FROM unnest(%b::bytea[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[])
    ON CONFLICT DO NOTHING
"""

DELETE_PENDING = "DELETE FROM late_pending WHERE scope = %s AND key = ANY(%b::bytea[])"

EXPIRE_PENDING = "DELETE FROM late_pending WHERE scope = %s AND created < %s AND created <> 0"

READ_SERIES = "SELECT id, value, created FROM late_series WHERE workspace = ANY(%b::text[]) AND id = ANY(%b::bytea[])"

WRITE_SERIES = """
    INSERT INTO late_series (workspace, id, family, labels, value, created)
    SELECT * FROM unnest(
        %b::text[], %b::bytea[], %b::text[], %b::text[], %b::bytea[], %b::double precision[]
    ) ON CONFLICT (workspace, id) DO UPDATE SET value = excluded.value
"""

# Only the rest: partitions of days are dropped as a whole. In one statement, so that its parts see the same rows; an
# array rather than a join, because the plan of a join depends on statistics that a new table does not have.
PRUNE_REST = """
    WITH gone AS (
        SELECT key, max(created) AS created FROM late_observation
        WHERE scope = %(scope)s AND day = 0 AND created < %(before)s
        GROUP BY key ORDER BY max(created) LIMIT %(limit)s
    ), rows AS (
        DELETE FROM late_observation
        WHERE scope = %(scope)s AND day = 0 AND key = ANY(ARRAY(SELECT key FROM gone)) RETURNING 1
    )
    UPDATE late_scope SET
        logs = logs - (SELECT count(*) FROM gone), pruned = pruned + (SELECT count(*) FROM rows)
    WHERE id = %(scope)s AND EXISTS (SELECT FROM gone)
"""
