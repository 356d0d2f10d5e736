-- +goose Up
-- Which fault a drill rehearsed, for the gate that asks for kinds: its report is large.
ALTER TABLE migrator.drills ADD COLUMN fault text GENERATED ALWAYS AS (report #>> '{fault,kind}') STORED;
