-- +goose Up
-- The source of a run and its actor never change: whether an approval comes from a second
-- person is checked against that actor.
-- +goose StatementBegin
CREATE FUNCTION migrator.sign_runbook_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the runs of runbooks are kept';
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := session_user;
        NEW.began_at := clock_timestamp();
    ELSIF (NEW.id, NEW.uid, NEW.migration, NEW.runbook, NEW.title, NEW.path, NEW.source, NEW.source_hash, NEW.epoch, NEW.config_hash, NEW.actor, NEW.began_at)
        IS DISTINCT FROM (OLD.id, OLD.uid, OLD.migration, OLD.runbook, OLD.title, OLD.path, OLD.source, OLD.source_hash, OLD.epoch, OLD.config_hash, OLD.actor, OLD.began_at) THEN
        RAISE EXCEPTION 'what run % of a runbook runs, and who began it, can''t be changed', OLD.id;
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER sign BEFORE INSERT OR UPDATE OR DELETE ON migrator.runbook_runs
    FOR EACH ROW EXECUTE FUNCTION migrator.sign_runbook_run();
ALTER TABLE migrator.runbook_runs ENABLE ALWAYS TRIGGER sign;
