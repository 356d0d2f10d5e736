-- +goose Up
-- +goose StatementBegin
-- captured is how far change capture has come, for an instance that compares where capture alone writes the target: see
-- Fleet.Captured. [capture-shadowed]: both moments are this server's, and caught_up is one before the end of legacy's
-- log was read.
CREATE FUNCTION migrator.captured(of_migration text, OUT alone boolean, OUT at timestamptz, OUT caught_up timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    SELECT coalesce(m.config::jsonb #>> '{capture,mode}', '') = 'only', clock_timestamp(),
            CASE WHEN c.lost = '' THEN (c.status ->> 'caught_up_at')::timestamptz END
        INTO alone, at, caught_up
        FROM migrator.migrations m LEFT JOIN migrator.captures c ON c.migration = m.name WHERE m.name = of_migration;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.captured(text) FROM PUBLIC;
-- +goose StatementBegin
DO $$
DECLARE of_role text;
BEGIN
    FOR of_role IN SELECT DISTINCT g.role FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role WHERE g.kind IN ('application', 'operator', 'server') LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION migrator.captured(text) TO %I', of_role);
    END LOOP;
END $$;
-- +goose StatementEnd
