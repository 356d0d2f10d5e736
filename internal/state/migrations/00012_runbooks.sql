-- +goose Up
-- A run can be resumed without the file that it was begun from.
ALTER TABLE migrator.runbook_runs
    ADD COLUMN uid    uuid NOT NULL DEFAULT gen_random_uuid(), -- names it on the machine that it runs on
    ADD COLUMN title  text NOT NULL DEFAULT '',
    ADD COLUMN path   text NOT NULL DEFAULT '',
    ADD COLUMN source text NOT NULL DEFAULT '';

ALTER TABLE migrator.runbook_steps
    ADD COLUMN seq      bigint NOT NULL GENERATED ALWAYS AS IDENTITY, -- the order of intents
    ADD COLUMN block    text   NOT NULL DEFAULT '',                   -- what is executed: the step, or its compensation
    ADD COLUMN ended_by text;                                         -- who gave the outcome

ALTER TABLE migrator.runbook_steps DROP CONSTRAINT runbook_steps_kind_check;
ALTER TABLE migrator.runbook_steps ADD CONSTRAINT runbook_steps_kind_check
    CHECK (kind IN ('check', 'action', 'approve', 'wait', 'verify', 'undo', 'correct'));

-- An intent never changes, and an outcome is recorded once. An approval must come from the
-- migration's decision maker, who must be a member of the step's own role as well.
-- +goose StatementBegin
CREATE FUNCTION migrator.sign_runbook_step() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_run migrator.runbook_runs;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the steps of a runbook''s run are kept';
    END IF;
    SELECT * INTO of_run FROM migrator.runbook_runs WHERE id = NEW.run;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := session_user;
        NEW.intent_at := clock_timestamp();
    ELSIF OLD.outcome IS NOT NULL THEN
        RAISE EXCEPTION 'step % of run % has its outcome already: %', OLD.step, OLD.run, OLD.outcome USING ERRCODE = 'MG012';
    ELSIF (NEW.run, NEW.step, NEW.direction, NEW.attempt, NEW.kind, NEW.block, NEW.intent, NEW.intent_at, NEW.actor, NEW.seq)
        IS DISTINCT FROM (OLD.run, OLD.step, OLD.direction, OLD.attempt, OLD.kind, OLD.block, OLD.intent, OLD.intent_at, OLD.actor, OLD.seq) THEN
        RAISE EXCEPTION 'the intent of step % of run % can''t be changed', OLD.step, OLD.run;
    END IF;
    IF NEW.outcome IS NULL THEN
        RETURN NEW;
    END IF;
    NEW.ended_by := session_user;
    NEW.outcome_at := clock_timestamp();
    IF NEW.kind = 'approve' THEN
        PERFORM migrator.require_member(migrator.decider(of_run.migration), 'approve');
        PERFORM migrator.require_member(coalesce(NEW.intent ->> 'role', ''), 'approve');
        IF coalesce((NEW.intent ->> 'two_people')::boolean, false) AND NEW.outcome = 'done' AND of_run.actor = session_user THEN
            RAISE EXCEPTION 'step % needs two people: % began the run; connect to the state database as somebody else', NEW.step, session_user USING ERRCODE = 'MG011';
        END IF;
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER sign BEFORE INSERT OR UPDATE OR DELETE ON migrator.runbook_steps
    FOR EACH ROW EXECUTE FUNCTION migrator.sign_runbook_step();
ALTER TABLE migrator.runbook_steps ENABLE ALWAYS TRIGGER sign;

-- The results of runbook verify, which open and close the gate of that name.
CREATE TABLE migrator.runbook_verifications (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text        NOT NULL REFERENCES migrator.migrations (name),
    runbook     text        NOT NULL,
    source_hash text        NOT NULL,
    config_hash text        NOT NULL,
    passed      boolean     NOT NULL,
    findings    jsonb       NOT NULL DEFAULT '[]',
    actor       text        NOT NULL DEFAULT session_user,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON migrator.runbook_verifications (migration, runbook, id);
