-- +goose Up
ALTER TABLE migrator.reconcile_findings
    ADD COLUMN lost boolean NOT NULL DEFAULT false; -- missing or older in the target, and not in the journal
