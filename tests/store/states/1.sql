BEGIN TRANSACTION;
CREATE TABLE late_feed (
        id INTEGER PRIMARY KEY, workspace BIGINT NOT NULL, name TEXT NOT NULL,
        revision BIGINT NOT NULL DEFAULT 0, coverage TEXT, progress TEXT, failures TEXT,
        logs BIGINT NOT NULL DEFAULT 0, observations BIGINT NOT NULL DEFAULT 0,
        pruned BIGINT NOT NULL DEFAULT 0, UNIQUE (workspace, name)
    );
INSERT INTO "late_feed" VALUES(1,1,'publishing',2,'{"retention_floor":0,"complete_since":1,"caught_up_at":0,"newest":null,"gaps":[],"is_synced":true,"published_at":0,"generation":"late"}',NULL,NULL,4,4,0);
CREATE TABLE late_log (
        feed BIGINT NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL, created BIGINT NOT NULL,
        PRIMARY KEY (feed, key, status)
    ) WITHOUT ROWID;
INSERT INTO "late_log" VALUES(1,'1759999980000-k.0','success',1759999980000);
INSERT INTO "late_log" VALUES(1,'1759999980000-k.1','failed',1759999980000);
INSERT INTO "late_log" VALUES(1,'1759999980000-k.2','failed',1759999980000);
INSERT INTO "late_log" VALUES(1,'1759999980000-k.3','pending',1759999980000);
CREATE TABLE late_pending (
        feed BIGINT NOT NULL, key TEXT NOT NULL, created BIGINT NOT NULL, platform TEXT NOT NULL,
        action TEXT NOT NULL, post_id TEXT, PRIMARY KEY (feed, key)
    ) WITHOUT ROWID;
INSERT INTO "late_pending" VALUES(1,'1759999980000-k.3',1759999980000,'tiktok','retry',NULL);
CREATE TABLE late_series (
        workspace BIGINT NOT NULL, id TEXT NOT NULL, family TEXT NOT NULL,
        labels TEXT NOT NULL, value TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (workspace, id)
    ) WITHOUT ROWID;
INSERT INTO "late_series" VALUES(1,'02d59add61dce00bd10bb55a6a6c2c7d','late_publishing_failures_total','["acme","tiktok","retry","timeout","none"]','2',0.0);
INSERT INTO "late_series" VALUES(1,'10709e3c6a2281ac0b1e848d242d13a6','late_publishing_last_log_timestamp_seconds','["acme","tiktok","retry","failed"]','{"type":"reading","at":1759999980000,"value":1759999980.0}',0.0);
INSERT INTO "late_series" VALUES(1,'70404fb5d1ad05c54d8e3801cd4f3504','late_publishing_retries_total','["acme","tiktok","failed"]','2',0.0);
INSERT INTO "late_series" VALUES(1,'a08f0167596ae06794d3af360c04ddd8','late_publishing_logs_total','["acme","tiktok","retry","success"]','1',0.0);
INSERT INTO "late_series" VALUES(1,'c4e5b82ae8c6fab264e2801e092fce63','late_publishing_retries_total','["acme","tiktok","pending"]','1',0.0);
INSERT INTO "late_series" VALUES(1,'e1d49a226cffb1a325c2df17d13a585f','late_publishing_logs_total','["acme","tiktok","retry","failed"]','2',0.0);
INSERT INTO "late_series" VALUES(1,'ee0111d121a98cb69a7ac35bbbe2097e','late_publishing_logs_total','["acme","tiktok","retry","pending"]','1',0.0);
INSERT INTO "late_series" VALUES(1,'f9dc817d29e054e153fe7673b083551d','late_publishing_retries_total','["acme","tiktok","success"]','1',0.0);
CREATE TABLE late_state (version INTEGER NOT NULL, lock_class INTEGER NOT NULL);
INSERT INTO "late_state" VALUES(1,1347930590);
CREATE TABLE late_workspace (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO "late_workspace" VALUES(1,'acme');
COMMIT;
