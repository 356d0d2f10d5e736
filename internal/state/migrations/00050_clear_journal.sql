-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.clear_journal(of_migration text, keys bytea[], had_changes bigint[], since timestamptz[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The journal grows and shrinks faster than its statistics: a page's keys are looked up one by one in the index, in a
-- plan of its own, and no plan reads all of the journal for a page.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    cleared bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- [journal-changes]: compare-and-set on what was read before the repair. In the order in which keys are journalled:
    -- two transactions must not wait for each other.
    WITH repaired AS MATERIALIZED (
        SELECT of_migration AS migration, l.* FROM unnest(keys, had_changes, since) AS l (key, changes, first_at) ORDER BY l.key
    ), gone AS (
        DELETE FROM migrator.journal j USING repaired l
        WHERE j.migration = l.migration AND j.key = l.key AND j.changes = l.changes AND (l.first_at IS NULL OR j.first_at = l.first_at)
        RETURNING 1
    )
    SELECT count(*) INTO cleared FROM gone;
    RETURN cleared;
END $$;
-- +goose StatementEnd
