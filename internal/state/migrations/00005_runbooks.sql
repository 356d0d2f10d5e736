-- +goose Up
CREATE TABLE migrator.runbook_runs (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    runbook     text        NOT NULL,
    source_hash text        NOT NULL,
    epoch       bigint      NOT NULL,
    config_hash text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('running', 'waiting', 'done', 'failed', 'compensating', 'compensated')),
    actor       text        NOT NULL DEFAULT session_user,
    began_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE INDEX ON migrator.runbook_runs (migration, id);

-- The intent is written before a step acts, the outcome after: a step with an intent
-- and no outcome may or may not have been executed.
CREATE TABLE migrator.runbook_steps (
    run        bigint      NOT NULL REFERENCES migrator.runbook_runs (id),
    step       text        NOT NULL,
    direction  text        NOT NULL CHECK (direction IN ('forward', 'compensate')),
    attempt    integer     NOT NULL CHECK (attempt > 0),
    kind       text        NOT NULL CHECK (kind IN ('check', 'action', 'approve', 'wait', 'verify')),
    intent     jsonb       NOT NULL,
    intent_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome    text        CHECK (outcome IN ('done', 'failed', 'skipped', 'unknown')),
    detail     jsonb,
    outcome_at timestamptz,
    actor      text        NOT NULL DEFAULT session_user,
    PRIMARY KEY (run, step, direction, attempt),
    CHECK ((outcome IS NULL) = (outcome_at IS NULL))
);
