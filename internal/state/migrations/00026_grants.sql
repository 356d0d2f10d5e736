-- +goose Up
-- What roles may do, a row for each migration or one with '*' for all. migrator init writes them,
-- as the schema's owner. Every function of the schema that a role other than the owner may call asks
-- migrator.may first.
CREATE TABLE migrator.grants (
    role       text        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('application', 'operator', 'decider', 'viewer')),
    migration  text        NOT NULL DEFAULT '*',
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    granted_by text        NOT NULL DEFAULT session_user,
    PRIMARY KEY (role, kind, migration)
);

-- +goose StatementBegin
CREATE FUNCTION migrator.may(of_kind text, of_migration text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- pg_has_role is true for a superuser, whatever the role. A row of a role that was dropped joins nothing.
    SELECT pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER')
        OR EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
                   WHERE (g.kind = of_kind OR of_kind = 'viewer' AND g.kind IN ('operator', 'decider'))
                     AND g.migration IN ('*', of_migration) AND pg_has_role(session_user, r.oid, 'MEMBER'))
$$;

CREATE FUNCTION migrator.require(of_kind text, of_migration text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF migrator.may(of_kind, of_migration) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'the role % has no grant of the kind % for the migration %; try: migrator init --grant-% % --migration %',
        session_user, of_kind, of_migration, of_kind, quote_ident(session_user), of_migration USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.may(text, text), migrator.require(text, text) FROM PUBLIC;
