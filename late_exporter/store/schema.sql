-- The state in SQLite.

CREATE TABLE scope (
    id INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    feed TEXT NOT NULL,
    coverage BLOB,
    progress BLOB,
    logs INTEGER NOT NULL DEFAULT 0,
    observations INTEGER NOT NULL DEFAULT 0,
    pruned INTEGER NOT NULL DEFAULT 0,
    commits INTEGER NOT NULL DEFAULT 0,
    restored INTEGER NOT NULL DEFAULT 0,
    UNIQUE (workspace, feed)
);

-- Keys begin with a time, so that new observations are appended at the end of the B-tree.
CREATE TABLE observation (
    scope INTEGER NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    created INTEGER,
    PRIMARY KEY (scope, key, status)
) WITHOUT ROWID;

CREATE TABLE pending (
    scope INTEGER NOT NULL,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,
    platform TEXT NOT NULL,
    action TEXT NOT NULL,
    post_id TEXT,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;

CREATE TABLE series (
    family TEXT NOT NULL,
    labels TEXT NOT NULL,
    value BLOB NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (family, labels)
) WITHOUT ROWID;

CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    scope INTEGER NOT NULL,
    queued INTEGER NOT NULL,
    body BLOB NOT NULL
);
