-- +goose Up
-- Append-only. A trigger fills seq, at, actor and the hashes whatever a client
-- sends, others refuse every change. A superuser can bypass both; the hash chain then
-- shows the change.
CREATE TABLE migrator.history (
    migration    text           NOT NULL REFERENCES migrator.migrations (name),
    seq          bigint         NOT NULL,
    at           timestamptz    NOT NULL,
    actor        text           NOT NULL,
    cause        text           NOT NULL CHECK (cause IN (
        'created', 'advance', 'rollback', 'fence', 'failure', 'config', 'evict', 'pause', 'resume', 'approve')),
    from_phase   migrator.phase NOT NULL,
    from_percent integer        NOT NULL,
    from_epoch   bigint         NOT NULL,
    to_phase     migrator.phase NOT NULL,
    to_percent   integer        NOT NULL,
    to_epoch     bigint         NOT NULL,
    reason       text           NOT NULL,
    config_hash  text           NOT NULL,
    evidence     jsonb          NOT NULL,
    prev_hash    bytea          NOT NULL, -- empty in the first entry
    hash         bytea          NOT NULL,
    PRIMARY KEY (migration, seq)
);

-- +goose StatementBegin
CREATE FUNCTION migrator.netstring(t text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT convert_to(octet_length(convert_to(t, 'UTF8'))::text || ':', 'UTF8') || convert_to(t, 'UTF8')
$$;
-- +goose StatementEnd

-- hash = SHA-256 of prev_hash followed by each of these as <bytes>:<UTF-8>, in
-- this order: migration, seq, at (UTC, 2006-01-02T15:04:05.000000Z), actor, cause,
-- from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch, reason,
-- config_hash, evidence (as jsonb prints it).
-- +goose StatementBegin
CREATE FUNCTION migrator.chain_history() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last record;
BEGIN
    PERFORM FROM migrator.migrations WHERE name = NEW.migration FOR UPDATE; -- one entry after the other
    SELECT h.seq, h.hash INTO last FROM migrator.history h
        WHERE h.migration = NEW.migration ORDER BY h.seq DESC LIMIT 1;
    NEW.seq := coalesce(last.seq, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.actor := session_user;
    NEW.prev_hash := coalesce(last.hash, ''::bytea);
    NEW.hash := sha256(NEW.prev_hash
        || migrator.netstring(NEW.migration)
        || migrator.netstring(NEW.seq::text)
        || migrator.netstring(to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || migrator.netstring(NEW.actor)
        || migrator.netstring(NEW.cause)
        || migrator.netstring(NEW.from_phase)
        || migrator.netstring(NEW.from_percent::text)
        || migrator.netstring(NEW.from_epoch::text)
        || migrator.netstring(NEW.to_phase)
        || migrator.netstring(NEW.to_percent::text)
        || migrator.netstring(NEW.to_epoch::text)
        || migrator.netstring(NEW.reason)
        || migrator.netstring(NEW.config_hash)
        || migrator.netstring(NEW.evidence::text));
    UPDATE migrator.migrations SET history_seq = NEW.seq WHERE name = NEW.migration;
    RETURN NEW;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION migrator.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd

CREATE TRIGGER chain BEFORE INSERT ON migrator.history
    FOR EACH ROW EXECUTE FUNCTION migrator.chain_history();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON migrator.history
    FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();
ALTER TABLE migrator.history ENABLE ALWAYS TRIGGER chain;
ALTER TABLE migrator.history ENABLE ALWAYS TRIGGER append_only;
