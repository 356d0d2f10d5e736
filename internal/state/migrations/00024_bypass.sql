-- +goose Up
-- What legacy's counters have shown of writes that no instance reported, in the present stay beyond
-- legacy: see phases.Bypass.
CREATE TABLE migrator.bypass (
    migration text             PRIMARY KEY REFERENCES migrator.migrations (name),
    stay      bigint           NOT NULL, -- the last epoch in phase legacy, when it was written
    epoch     bigint           NOT NULL, -- of the last look
    began_at  timestamptz      NOT NULL,
    looked_at timestamptz      NOT NULL,
    judged    double precision NOT NULL CHECK (judged >= 0), -- seconds
    why       text             NOT NULL CHECK (length(why) <= 500),
    counters  text             NOT NULL CHECK (length(counters) <= 1000000), -- in the store's own words
    samples   jsonb            NOT NULL CHECK (jsonb_typeof(samples) = 'array'),
    discarded bigint           NOT NULL, -- windows of telemetry, as of the last look
    least     bigint           NOT NULL CHECK (least >= 0),
    most      bigint           NOT NULL CHECK (most >= least),
    first_at  timestamptz,
    last_at   timestamptz,
    writers   text[]           NOT NULL
) WITH (fillfactor = 50);
