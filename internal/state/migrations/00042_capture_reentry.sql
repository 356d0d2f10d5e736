-- +goose Up
-- Changes that are lost to change capture void the backfills that began before, and keep its progress from being saved.

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.save_capture(of_migration text, new_progress jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended boolean := coalesce(new_progress ->> 'slot', '') = '';
BEGIN
    PERFORM migrator.require('operator', of_migration);
    INSERT INTO migrator.captures AS c (migration, progress, saved_at) VALUES (of_migration, new_progress, clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET progress = excluded.progress, saved_at = excluded.saved_at, lost = ''
        WHERE ended OR c.lost = '';
    -- [capture-progress]: of a process that has not noticed that changes are lost.
    IF NOT FOUND THEN
        RAISE EXCEPTION 'changes of legacy are lost to capture, which has to begin again' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;

-- lose_capture notes that changes are missing, and returns whether that is news. The first reason stays until capture
-- has begun again; when it was, stays longer.
DROP FUNCTION migrator.lose_capture(text, text);
CREATE FUNCTION migrator.lose_capture(of_migration text, why text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at text;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    SELECT phase INTO STRICT at FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    INSERT INTO migrator.captures AS c (migration, lost, lost_at)
        VALUES (of_migration, left(why, 500), CASE WHEN at NOT IN ('retain', 'complete') THEN clock_timestamp() END)
        ON CONFLICT (migration) DO UPDATE SET lost = excluded.lost, lost_at = coalesce(excluded.lost_at, c.lost_at) WHERE c.lost = '';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Behind the fence, which capture has passed, legacy takes nothing that could be missing.
    IF at NOT IN ('legacy', 'retain', 'complete') THEN
        -- [capture-reentry]: its barrier is from before.
        UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = of_migration AND finished_at IS NULL AND void_at IS NULL;
        PERFORM migrator.mark_unclean(of_migration, why);
    END IF;
    RETURN true;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.lose_capture(text, text) FROM PUBLIC;
