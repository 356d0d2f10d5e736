-- +goose Up
-- What change capture does, as the process that captures reports it, and that changes are missing.
ALTER TABLE migrator.captures ALTER COLUMN progress SET DEFAULT '{}', ALTER COLUMN saved_at DROP NOT NULL,
    ADD COLUMN status      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(status) = 'object' AND octet_length(status::text) <= 8192),
    ADD COLUMN reported_at timestamptz,
    ADD COLUMN lost        text        NOT NULL DEFAULT '' CHECK (length(lost) <= 500),
    ADD COLUMN lost_at     timestamptz;

-- +goose StatementBegin
-- save_capture stores the progress. The process that captures calls it in the session that has its lock. Without a slot
-- capture has ended, and what was lost is no longer missing to it: it begins behind another barrier.
CREATE OR REPLACE FUNCTION migrator.save_capture(of_migration text, new_progress jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.captures AS c (migration, progress, saved_at) VALUES (of_migration, new_progress, clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET progress = excluded.progress, saved_at = excluded.saved_at,
            lost = CASE WHEN coalesce(excluded.progress ->> 'slot', '') = '' THEN '' ELSE c.lost END,
            lost_at = CASE WHEN coalesce(excluded.progress ->> 'slot', '') = '' THEN NULL ELSE c.lost_at END
$$;

CREATE FUNCTION migrator.report_capture(of_migration text, new_status jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.captures (migration, status, reported_at) VALUES (of_migration, new_status, clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET status = excluded.status, reported_at = excluded.reported_at
$$;

-- lose_capture notes that changes are missing. The first reason stays.
CREATE FUNCTION migrator.lose_capture(of_migration text, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.captures AS c (migration, lost, lost_at) VALUES (of_migration, left(why, 500), clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET lost = excluded.lost, lost_at = excluded.lost_at WHERE c.lost = '';
    SELECT migrator.mark_unclean(of_migration, why)
$$;

-- what_matters leaves out what migration.Config.Hash leaves out.
CREATE OR REPLACE FUNCTION migrator.what_matters(config jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT config - ARRAY['fleet', 'backfill', 'capture', 'throttle', 'reconcile', 'compare', 'exclude', 'phases'] || jsonb_build_object(
            'phases', coalesce(config -> 'phases', '{}') - ARRAY['dual_read', 'cutover', 'grace'] || jsonb_build_object(
                'dual_read', coalesce(config #> '{phases,dual_read}', '{}') - 'auto',
                'cutover', coalesce(config #> '{phases,cutover}', '{}') - 'auto' - 'shadow',
                'grace', coalesce(config #> '{phases,grace}', '{}') - 'shadow'),
            'reconcile', jsonb_build_object('pause', config #> '{reconcile,pause}', 'rereads', config #> '{reconcile,rereads}'),
            'capture', config #> '{capture,mode}',
            'exclude', (SELECT jsonb_agg(e ORDER BY e::text) FROM jsonb_array_elements(CASE jsonb_typeof(config -> 'exclude') WHEN 'array' THEN config -> 'exclude' END) e),
            'compare', (SELECT jsonb_agg(CASE WHEN coalesce(r ->> 'ignore', '') <> '' THEN jsonb_set(r - 'show', '{ignore}', '"yes"') ELSE r - 'show' END ORDER BY r ->> 'path', r::text)
                FROM jsonb_array_elements(CASE jsonb_typeof(config -> 'compare') WHEN 'array' THEN config -> 'compare' END) r
                WHERE coalesce(r ->> 'ignore', '') <> '' OR coalesce(r ->> 'tolerance', '') <> '' OR coalesce(r ->> 'precision', '0') <> '0' OR coalesce(r ->> 'as', '') <> ''))
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.report_capture(text, jsonb), migrator.lose_capture(text, text) FROM PUBLIC;
