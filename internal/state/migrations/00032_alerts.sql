-- +goose Up
-- The alerts for triggers that an Alertmanager has sent and not yet resolved. The trigger '' is its Watchdog, which
-- fires always: it shows that alerts would arrive.
CREATE TABLE migrator.alerts (
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    trigger     text        NOT NULL CHECK (length(trigger) <= 63),
    fingerprint text        NOT NULL CHECK (length(fingerprint) <= 64),
    starts_at   timestamptz NOT NULL,
    detail      text        NOT NULL CHECK (length(detail) <= 600),
    heard_at    timestamptz NOT NULL,
    PRIMARY KEY (migration, trigger, fingerprint)
) WITH (fillfactor = 50);
ALTER TABLE migrator.alerts ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON migrator.alerts FOR SELECT USING ('*' = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider'))::text[])
    OR migration = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider'))::text[]));

-- note_alerts notes what one webhook says: objects with trigger, fingerprint, starts_at and detail. One that was
-- not repeated for an hour is forgotten: its resolution was lost. Of a trigger 100 are kept; each is repeated.
-- +goose StatementBegin
CREATE FUNCTION migrator.note_alerts(of_migration text, firing jsonb, resolved jsonb, watchdog boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF NOT EXISTS (SELECT FROM migrator.migrations WHERE name = of_migration) THEN
        RETURN;
    END IF;
    DELETE FROM migrator.alerts a USING jsonb_array_elements(resolved) r
        WHERE a.migration = of_migration AND a.trigger <> '' AND a.trigger = r ->> 'trigger' AND a.fingerprint = r ->> 'fingerprint'
          AND a.starts_at <= (r ->> 'starts_at')::timestamptz;
    DELETE FROM migrator.alerts WHERE migration = of_migration AND trigger <> '' AND heard_at < clock_timestamp() - interval '1 hour';
    INSERT INTO migrator.alerts (migration, trigger, fingerprint, starts_at, detail, heard_at)
        SELECT of_migration, f.trigger, f.fingerprint, max(f.starts_at), max(left(f.detail, 600)), clock_timestamp()
        FROM (SELECT e ->> 'trigger' AS trigger, e ->> 'fingerprint' AS fingerprint, (e ->> 'starts_at')::timestamptz AS starts_at, e ->> 'detail' AS detail,
                     row_number() OVER (PARTITION BY e ->> 'trigger' ORDER BY e ->> 'fingerprint') AS n
              FROM jsonb_array_elements(firing) e) AS f
        WHERE f.trigger <> '' AND f.starts_at < clock_timestamp() + interval '1 day' AND (EXISTS (SELECT FROM migrator.alerts a WHERE a.migration = of_migration AND a.trigger = f.trigger AND a.fingerprint = f.fingerprint)
            OR f.n + (SELECT count(*) FROM migrator.alerts a WHERE a.migration = of_migration AND a.trigger = f.trigger) <= 100)
        GROUP BY f.trigger, f.fingerprint
    ON CONFLICT (migration, trigger, fingerprint) DO UPDATE SET starts_at = excluded.starts_at, detail = excluded.detail, heard_at = excluded.heard_at;
    IF watchdog THEN
        INSERT INTO migrator.alerts (migration, trigger, fingerprint, starts_at, detail, heard_at)
            VALUES (of_migration, '', '', clock_timestamp(), '', clock_timestamp())
        ON CONFLICT (migration, trigger, fingerprint) DO UPDATE SET heard_at = excluded.heard_at;
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.note_alerts(text, jsonb, jsonb, boolean) FROM PUBLIC;
