-- +goose Up
-- The daemon takes steps of ramps by itself, and notifies of triggers that fire where
-- there is nothing to roll back.
ALTER TABLE migrator.history DROP CONSTRAINT history_cause_check;
ALTER TABLE migrator.history ADD CONSTRAINT history_cause_check CHECK (cause IN (
    'created', 'advance', 'rollback', 'fence', 'failure', 'config', 'evict', 'pause', 'resume', 'approve',
    'trigger', 'acknowledge', 'schedule'));
ALTER TABLE migrator.outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE migrator.outbox ADD CONSTRAINT outbox_event_check CHECK (event IN (
    'moved', 'rolled-back', 'overridden', 'acknowledged', 'paused', 'resumed', 'held', 'fired'));
