-- +goose Up
-- The servers that this database has been on, the newest last. Another system identifier or
-- timeline is another server: one that was promoted, restored or copied may lack the last
-- transactions, though no route shows that.
CREATE TABLE migrator.servers (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server   text        NOT NULL CHECK (length(server) <= 100),
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- server returns the system identifier, if the owner of the schema may read it, and the timeline;
-- NULL on a standby.
-- +goose StatementBegin
CREATE FUNCTION migrator.server() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE system text := 'unknown';
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    IF has_function_privilege('pg_control_system()', 'EXECUTE') THEN
        SELECT system_identifier::text INTO system FROM pg_control_system();
    END IF;
    RETURN 'system ' || system || ', timeline ' || ('x' || left(pg_walfile_name('0/1'), 8))::bit(32)::int8;
END $$;
-- +goose StatementEnd

-- changed_server is "" while the server is the newest one that was noted.
-- +goose StatementBegin
CREATE FUNCTION migrator.changed_server() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT s.server || ' before, ' || now.server || ' now'
        FROM (SELECT migrator.server() AS server) now,
             (SELECT server FROM migrator.servers ORDER BY id DESC LIMIT 1) s
        WHERE s.server <> now.server), '')
$$;
-- +goose StatementEnd

-- note_server notes the present server.
-- +goose StatementBegin
CREATE FUNCTION migrator.note_server() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO migrator.servers (server)
    SELECT now.server FROM (SELECT migrator.server() AS server) now
    WHERE now.server IS DISTINCT FROM (SELECT server FROM migrator.servers ORDER BY id DESC LIMIT 1) AND now.server IS NOT NULL
$$;
-- +goose StatementEnd

-- suspect_state marks a migration unclean because the state may have lost transactions; where the
-- target has authority, the return journal may lack keys.
-- +goose StatementBegin
CREATE FUNCTION migrator.suspect_state(of_migration text, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500),
           return_lost = return_lost OR phase IN ('fenced', 'lifting', 'returning', 'retain')
    WHERE name = of_migration
$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION migrator.note_server(), migrator.suspect_state(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION migrator.server(), migrator.changed_server() TO PUBLIC;
SELECT migrator.note_server();
