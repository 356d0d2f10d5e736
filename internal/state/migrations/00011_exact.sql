-- +goose Up
ALTER TABLE migrator.reconcile_runs
    ADD COLUMN refused          text   NOT NULL DEFAULT '', -- why it repaired nothing
    ADD COLUMN forced           text   NOT NULL DEFAULT '', -- the reason given for repairing beyond the bound
    ADD COLUMN places           bigint NOT NULL DEFAULT 0,  -- stretches of blocks that a sampled run read
    ADD COLUMN recent           bigint NOT NULL DEFAULT 0,  -- records compared because they are young
    ADD COLUMN recent_different bigint NOT NULL DEFAULT 0,  -- of these
    ADD COLUMN recent_only      bigint NOT NULL DEFAULT 0;  -- of the differences, those found only among them

-- Which blocks of legacy a run has read. Another file of the same relation holds
-- other rows, in other places.
CREATE TABLE migrator.reconcile_coverage (
    run      bigint         NOT NULL REFERENCES migrator.reconcile_runs (id),
    relation text           NOT NULL,
    file     bigint         NOT NULL,
    blocks   bigint         NOT NULL, -- of the relation, when the run began
    records  bigint         NOT NULL, -- in it, then: an estimate
    covered  int8multirange NOT NULL,
    PRIMARY KEY (run, relation)
);

CREATE INDEX ON migrator.reconcile_findings (key, run);
