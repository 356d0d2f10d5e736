-- +goose Up
-- What is left for roles: nothing for PUBLIC, and of each table the rows of migrations that a role has a grant for.

-- +goose StatementBegin
DO $$
DECLARE
    t       text;
    f       regprocedure;
    g       record;
    granted constant text := $p$('*' = ANY ((SELECT migrator.granted(%2$s))::text[]) OR %1$s = ANY ((SELECT migrator.granted(%2$s))::text[]))$p$;
    readers constant text := $p$'viewer', 'operator', 'decider', 'application'$p$;
BEGIN
    FOREACH t IN ARRAY ARRAY['buckets', 'epochs', 'incarnations', 'journal', 'leases', 'marks', 'migrations', 'return_journal', 'windows'] LOOP
        EXECUTE format('ALTER TABLE migrator.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY read ON migrator.%I FOR SELECT USING (%s)', t, format(granted, CASE t WHEN 'migrations' THEN 'name' ELSE 'migration' END, readers));
    END LOOP;
    -- To lock the row: a role may change nothing of it.
    EXECUTE format('CREATE POLICY lock ON migrator.migrations FOR UPDATE USING (%s)', format(granted, 'name', $p$'operator', 'decider', 'application'$p$));
    EXECUTE format('CREATE POLICY settle ON migrator.epochs FOR UPDATE USING (%s)', format(granted, 'migration', $p$'operator', 'application'$p$));
    FOREACH t IN ARRAY ARRAY['buckets', 'incarnations', 'journal', 'leases', 'return_journal', 'windows'] LOOP
        EXECUTE format('CREATE POLICY work ON migrator.%I USING (%s)', t, format(granted, 'migration', $p$'operator', 'application'$p$));
    END LOOP;

    FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace IN ('migrator'::regnamespace, 'migrator_river'::regnamespace) LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
    -- Roles that an older release granted could write what is decided: they can't any more, granted again or not.
    FOR g IN SELECT DISTINCT c.relname, r.rolname FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
             WHERE c.relnamespace = 'migrator'::regnamespace AND c.relkind = 'r' AND a.grantee <> c.relowner AND c.relname IN ('approvals', 'bypass',
                'columns_seen', 'configurations', 'epochs', 'fences', 'forgotten', 'grants', 'history', 'marks', 'migrations', 'parts', 'returns', 'schema_version',
                'servers', 'servers_seen', 'identity') LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON migrator.%I FROM %I', g.relname, g.rolname);
        IF g.relname = 'migrations' THEN
            EXECUTE format('GRANT UPDATE (lockable) ON migrator.migrations TO %I', g.rolname);
        ELSIF g.relname = 'epochs' AND EXISTS (SELECT FROM migrator.grants WHERE kind = 'application' AND role = g.rolname) THEN
            EXECUTE format('GRANT UPDATE (settled_at) ON migrator.epochs TO %I', g.rolname); -- an application of before writes it
        END IF;
    END LOOP;
    -- What statements of applications of before call, also by the policies above.
    FOR g IN SELECT r.rolname FROM migrator.grants a JOIN pg_roles r ON r.rolname = a.role WHERE a.kind = 'application' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION migrator.granted(text[]), migrator.mark_of(text), migrator.refuse_lost_target(text),
            migrator.changed_server(), migrator.server() TO %I', g.rolname);
    END LOOP;
END $$;
-- +goose StatementEnd
