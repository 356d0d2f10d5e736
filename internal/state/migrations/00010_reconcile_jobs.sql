-- +goose Up
-- Runs are paused, cancelled, and resumed by another process.
ALTER TABLE migrator.reconcile_runs DROP CONSTRAINT reconcile_runs_status_check;
ALTER TABLE migrator.reconcile_runs ADD CONSTRAINT reconcile_runs_status_check CHECK (status IN (
    'running', 'paused', 'done', 'stopped', 'cancelled'));
ALTER TABLE migrator.reconcile_runs DROP CONSTRAINT reconcile_runs_check;
ALTER TABLE migrator.reconcile_runs ADD CONSTRAINT reconcile_runs_check CHECK (
    (status IN ('running', 'paused')) = (finished_at IS NULL));
ALTER TABLE migrator.reconcile_runs
    ADD COLUMN terms jsonb NOT NULL DEFAULT '{}', -- what every worker of the run must know
    ADD COLUMN said  text  NOT NULL DEFAULT '',   -- why it is paused, or was cancelled
    ADD COLUMN said_by text NOT NULL DEFAULT '';  -- '': no operator; only an operator ends an operator's pause

-- The jobs of a run. The queue delivers them, some of them twice; these rows decide.
-- attempt is the number of the queue's job that may execute it: a worker whose job was
-- reassigned finds another number, and can't complete it.
CREATE TABLE migrator.reconcile_jobs (
    run       bigint      NOT NULL REFERENCES migrator.reconcile_runs (id) ON DELETE CASCADE,
    number    integer     NOT NULL,
    chunks    jsonb       NOT NULL,
    state     text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'taken', 'done', 'failed')),
    attempt   bigint      NOT NULL,
    attempts  integer     NOT NULL DEFAULT 1,
    failures  integer     NOT NULL DEFAULT 0,
    error     text        NOT NULL DEFAULT '',
    moved     boolean     NOT NULL DEFAULT false, -- it failed because the table was rewritten
    worker    text        NOT NULL DEFAULT '',
    beat_at   timestamptz,                        -- its worker's last heartbeat
    checked   bigint      NOT NULL DEFAULT 0,
    suspected integer     NOT NULL DEFAULT 0,
    suspects  bytea[],                            -- NULL once they are rechecked
    ahead     bytea[],
    names     bytea,                              -- hashes of keys, 8 bytes each; NULL once they are counted
    settled   boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (run, number),
    CHECK (NOT settled OR state = 'done')
);
ALTER TABLE migrator.reconcile_jobs ALTER COLUMN names SET STORAGE EXTERNAL;

-- The outcomes of the daemon's scheduled runs. The first row of an expression records
-- since when it is applied: earlier times were not missed.
CREATE TABLE migrator.reconcile_schedule (
    migration text        NOT NULL REFERENCES migrator.migrations (name),
    kind      text        NOT NULL CHECK (kind IN ('sampled', 'full')),
    expr      text        NOT NULL,
    due_at    timestamptz NOT NULL,
    outcome   text        NOT NULL CHECK (outcome IN ('set', 'running', 'done', 'refused', 'failed')),
    run       bigint,
    detail    text        NOT NULL DEFAULT '',
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (migration, kind, expr, due_at)
);
