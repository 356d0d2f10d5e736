-- +goose Up
CREATE TABLE migrator.approvals (
    id          bigint         PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text           NOT NULL REFERENCES migrator.migrations (name),
    to_phase    migrator.phase NOT NULL,
    epoch       bigint         NOT NULL,
    config_hash text           NOT NULL,
    role        text           NOT NULL, -- that the actor was a member of; '' where none was asked for
    reason      text           NOT NULL,
    actor       text           NOT NULL,
    at          timestamptz    NOT NULL,
    expires_at  timestamptz    NOT NULL
);
CREATE INDEX ON migrator.approvals (migration, epoch);

-- +goose StatementBegin
CREATE FUNCTION migrator.sign_approval() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.actor := session_user;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER sign BEFORE INSERT ON migrator.approvals
    FOR EACH ROW EXECUTE FUNCTION migrator.sign_approval();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON migrator.approvals
    FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TABLE migrator.backfills (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    epoch       bigint      NOT NULL,
    progress    jsonb       NOT NULL, -- without the chunks
    chunks      jsonb       NOT NULL, -- many, and written once: apart, so that saving progress does not rewrite them
    began_at    timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX ON migrator.backfills (migration, id);

CREATE TABLE migrator.reconcile_runs (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    epoch       bigint      NOT NULL,
    config_hash text        NOT NULL,
    whole       boolean     NOT NULL, -- every record, not a sample
    two_way     boolean     NOT NULL,
    repair      boolean     NOT NULL,
    slice       integer     NOT NULL,
    slices      integer     NOT NULL CHECK (slices > 0),
    status      text        NOT NULL CHECK (status IN ('running', 'done', 'stopped')),
    checked     bigint      NOT NULL DEFAULT 0,
    scanned     bigint      NOT NULL DEFAULT 0,
    suspects    bigint      NOT NULL DEFAULT 0,
    expected    bigint      NOT NULL DEFAULT 0, -- an estimate
    unsettled   bigint      NOT NULL DEFAULT 0,
    journalled  bigint      NOT NULL DEFAULT 0, -- keys of the journal that it repaired first
    differences bigint      NOT NULL DEFAULT 0,
    repaired    bigint      NOT NULL DEFAULT 0,
    classes     jsonb       NOT NULL DEFAULT '{}',
    error       text        NOT NULL DEFAULT '',
    began_at    timestamptz NOT NULL,
    finished_at timestamptz,
    CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE INDEX ON migrator.reconcile_runs (migration, id);

CREATE TABLE migrator.reconcile_findings (
    id       bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    run      bigint      NOT NULL REFERENCES migrator.reconcile_runs (id),
    key      bytea       NOT NULL,
    raw_key  bytea       NOT NULL,
    class    text        NOT NULL,
    path     text        NOT NULL,
    paths    text[]      NOT NULL,
    detail   text        NOT NULL,
    version  text        NOT NULL,
    repaired boolean     NOT NULL,
    repair   text        NOT NULL,
    at       timestamptz NOT NULL
);
CREATE INDEX ON migrator.reconcile_findings (run, id);
