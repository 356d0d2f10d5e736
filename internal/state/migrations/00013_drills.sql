-- +goose Up
-- The fault that the migration's instances inject, for a drill. The row's own environment
-- decides whether a fault is allowed, whichever client writes it.
ALTER TABLE migrator.migrations
    ADD COLUMN fault       jsonb,
    ADD COLUMN fault_until timestamptz,
    ADD CONSTRAINT faults_end CHECK ((fault IS NULL) = (fault_until IS NULL)),
    ADD CONSTRAINT faults_in_staging CHECK (fault IS NULL OR environment = 'staging');

-- What an instance reports of it. An instance that injects no faults reports nothing.
ALTER TABLE migrator.leases
    ADD COLUMN fault          text,        -- its id, once the instance knows it
    ADD COLUMN fault_executed bigint,      -- operations that it was injected into
    ADD COLUMN fault_first_at timestamptz; -- the first of them

CREATE TABLE migrator.drills (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    environment text        NOT NULL, -- in which it was executed
    config_hash text        NOT NULL, -- there
    rehearsal   text        NOT NULL, -- hash of what a drill rehearses: the same in every environment
    actor       text        NOT NULL DEFAULT session_user,
    began_at    timestamptz NOT NULL,
    finished_at timestamptz, -- NULL: it is running, or its process ended early
    passed      boolean     NOT NULL DEFAULT false,
    reason      text        NOT NULL DEFAULT '', -- why it failed
    report      jsonb,
    -- Of a drill in another environment that was imported as a signed file:
    digest      text, -- SHA-256 of what was signed: a file counts once
    signer      text, -- the public key, in base64
    imported_at timestamptz,
    CHECK (NOT passed OR finished_at IS NOT NULL),
    CHECK ((digest IS NULL) = (signer IS NULL) AND (digest IS NULL) = (imported_at IS NULL)),
    UNIQUE (migration, digest)
);
CREATE INDEX ON migrator.drills (migration, finished_at DESC) WHERE passed;
