-- +goose Up
-- An entry of the queue is a wake-up: it may be lost, duplicated or forged. Whoever takes a job
-- draws a new attempt, and only that attempt can complete it.
ALTER TABLE migrator.reconcile_jobs DROP COLUMN attempt;
ALTER TABLE migrator.reconcile_jobs
    ADD COLUMN wakeup  bigint, -- its newest entry in the queue, which may no longer have it
    ADD COLUMN attempt uuid,   -- of the worker that has it
    ALTER COLUMN attempts SET DEFAULT 0;
UPDATE migrator.reconcile_jobs SET state = 'waiting', worker = '', beat_at = NULL WHERE state = 'taken';
ALTER TABLE migrator.reconcile_jobs ADD CHECK ((state = 'taken') = (attempt IS NOT NULL));

-- wake_sender wakes the webhook sender in the transaction that writes the message. It runs as the
-- schema's owner, because who writes may be an application, which has no rights in the queue.
-- A rollback of the application must not fail, nor wait, because of the queue: the sender finds a
-- message without a wake-up half a minute later.
-- +goose StatementBegin
CREATE FUNCTION migrator.wake_sender() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    sender text := 'webhooks_' || left(encode(sha256(convert_to(NEW.migration, 'UTF8')), 'hex'), 16);
BEGIN
    INSERT INTO migrator_river.river_job (kind, queue, args) VALUES ('webhooks', sender, jsonb_build_object('migration', NEW.migration));
    PERFORM pg_notify('migrator_river.river_insert', json_build_object('queue', sender)::text);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'migrator: no wake-up for message % of %: %', NEW.id, NEW.migration, SQLERRM;
    RETURN NULL;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.wake_sender() FROM PUBLIC;
CREATE TRIGGER wake_sender AFTER INSERT ON migrator.outbox
    FOR EACH ROW EXECUTE FUNCTION migrator.wake_sender();
