-- +goose Up
-- What the leading daemon saw when it last repeated the checks of a migration's stores: see state.NoteChecks.
CREATE TABLE migrator.checks (
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    result      text        NOT NULL CHECK (result IN ('ok', 'not checked', 'warning', 'refused')),
    applied     text        NOT NULL CHECK (applied IN ('ok', 'not checked', 'warning', 'refused')), -- at the first look under this configuration
    config_hash text        NOT NULL,
    detail      text        NOT NULL CHECK (length(detail) <= 2000),
    hint        jsonb       NOT NULL CHECK (jsonb_typeof(hint) = 'object' AND length(hint::text) <= 4000),
    since       timestamptz NOT NULL, -- of the result
    looked_at   timestamptz NOT NULL,
    PRIMARY KEY (migration, name)
) WITH (fillfactor = 50);
ALTER TABLE migrator.checks ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON migrator.checks FOR SELECT USING ('*' = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider'))::text[])
    OR migration = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider'))::text[]));

-- note_checks replaces what was seen by a list of objects with name, result, detail and hint, each name once. It
-- returns the results of before, by name. What a first look under a configuration finds was there when it was
-- applied; of what a later look finds first, nothing was. While a server can't be reached, what was seen there before
-- is not checked.
-- +goose StatementBegin
CREATE FUNCTION migrator.note_checks(of_migration text, new_checks jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hash   text;
    before jsonb;
    looked boolean;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF jsonb_array_length(new_checks) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION '% checks: want 1 to 200', jsonb_array_length(new_checks) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT config_hash INTO hash FROM migrator.migrations WHERE name = of_migration;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    SELECT coalesce(jsonb_object_agg(name, result), '{}'), coalesce(bool_or(config_hash = hash), false) INTO before, looked
        FROM migrator.checks WHERE migration = of_migration;
    IF EXISTS (SELECT FROM jsonb_array_elements(new_checks) c WHERE c ->> 'name' LIKE '%connection' AND c ->> 'result' = 'refused') THEN
        UPDATE migrator.checks SET result = 'not checked', detail = 'could not be looked at', hint = '{}', looked_at = clock_timestamp(),
            since = CASE WHEN result = 'not checked' THEN since ELSE clock_timestamp() END
        WHERE migration = of_migration AND name NOT IN (SELECT c ->> 'name' FROM jsonb_array_elements(new_checks) c);
    ELSE
        DELETE FROM migrator.checks WHERE migration = of_migration AND name NOT IN (SELECT c ->> 'name' FROM jsonb_array_elements(new_checks) c);
    END IF;
    INSERT INTO migrator.checks AS old (migration, name, result, applied, config_hash, detail, hint, since, looked_at)
        SELECT of_migration, c ->> 'name', c ->> 'result', CASE WHEN looked THEN 'ok' ELSE c ->> 'result' END, hash,
               left(c ->> 'detail', 2000), coalesce(c -> 'hint', '{}'), clock_timestamp(), clock_timestamp()
        FROM jsonb_array_elements(new_checks) c
    ON CONFLICT (migration, name) DO UPDATE SET result = excluded.result, detail = excluded.detail, hint = excluded.hint,
        applied = CASE WHEN old.config_hash = hash THEN old.applied ELSE excluded.result END, config_hash = hash,
        since = CASE WHEN old.result = excluded.result THEN old.since ELSE excluded.since END, looked_at = excluded.looked_at;
    RETURN before;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.note_checks(text, jsonb) FROM PUBLIC;
