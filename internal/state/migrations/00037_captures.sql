-- +goose Up
-- How far change capture has come, by positions of legacy's log.
CREATE TABLE migrator.captures (
    migration text        PRIMARY KEY REFERENCES migrator.migrations (name),
    progress  jsonb       NOT NULL CHECK (jsonb_typeof(progress) = 'object' AND octet_length(progress::text) <= 65536),
    saved_at  timestamptz NOT NULL
);
ALTER TABLE migrator.captures ENABLE ROW LEVEL SECURITY;
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format($p$CREATE POLICY read ON migrator.captures FOR SELECT USING (%s)$p$,
        $p$'*' = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider', 'application'))::text[])
           OR migration = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider', 'application'))::text[])$p$);
END $$;

-- save_capture stores the progress. The process that captures calls it in the session that has its lock.
CREATE FUNCTION migrator.save_capture(of_migration text, new_progress jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.captures (migration, progress, saved_at) VALUES (of_migration, new_progress, clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET progress = excluded.progress, saved_at = excluded.saved_at
$$;

-- journal_captured journals keys whose captured state the target can't store.
CREATE FUNCTION migrator.journal_captured(of_migration text, keys bytea[], versions text[], reasons text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF cardinality(keys) > 100000 THEN
        RAISE EXCEPTION 'more than 100000 keys at once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- [journal-serial]: a move waits for this transaction and sees its keys, or this one sees the move.
    PERFORM FROM migrator.migrations WHERE name = of_migration AND phase IN ('legacy', 'shadow-write', 'dual-read', 'cutover', 'grace') FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no key is journaled behind the fence' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- [journal-version]: the highest one that the target lacks.
    INSERT INTO migrator.journal AS j (migration, key, version, changes, reason, first_at, last_at)
        SELECT of_migration, l.key, l.version, 1, left(l.reason, 500), clock_timestamp(), clock_timestamp()
        FROM unnest(keys, versions, reasons) AS l (key, version, reason)
        ORDER BY l.key
        ON CONFLICT (migration, key) DO UPDATE SET
            version = greatest(j.version, excluded.version), changes = j.changes + 1, reason = excluded.reason, last_at = excluded.last_at;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.save_capture(text, jsonb), migrator.journal_captured(text, bytea[], text[], text[]) FROM PUBLIC;
