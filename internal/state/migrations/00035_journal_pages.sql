-- +goose Up
-- +goose StatementBegin
-- clear_journal removes journalled keys that were repaired, each unless it has been journalled again since, and
-- returns how many.
CREATE FUNCTION migrator.clear_journal(of_migration text, keys bytea[], had_changes bigint[], since timestamptz[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The journal grows and shrinks faster than its statistics: no plan may read all of it for a page.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    cleared bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- [journal-changes]: compare-and-set on what was read before the repair. In the order in which keys are journalled:
    -- two transactions must not wait for each other.
    WITH mine AS (
        SELECT j.key FROM unnest(keys, had_changes, since) AS l (key, changes, first_at)
        JOIN migrator.journal j ON j.migration = of_migration AND j.key = l.key AND j.changes = l.changes
            AND (l.first_at IS NULL OR j.first_at = l.first_at)
        ORDER BY j.key FOR UPDATE OF j
    ), gone AS (
        DELETE FROM migrator.journal j USING mine WHERE j.migration = of_migration AND j.key = mine.key RETURNING 1
    )
    SELECT count(*) INTO cleared FROM gone;
    RETURN cleared;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
    g record;
BEGIN
    REVOKE ALL ON FUNCTION migrator.clear_journal(text, bytea[], bigint[], timestamptz[]) FROM PUBLIC;
    FOR g IN SELECT DISTINCT r.rolname FROM pg_proc p, aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
             WHERE p.oid = 'migrator.clear_journal(text, bytea, bigint, timestamptz)'::regprocedure AND a.grantee <> p.proowner LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION migrator.clear_journal(text, bytea[], bigint[], timestamptz[]) TO %I', g.rolname);
    END LOOP;
    DROP FUNCTION migrator.clear_journal(text, bytea, bigint, timestamptz);
END $$;
-- +goose StatementEnd
