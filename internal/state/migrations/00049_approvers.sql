-- +goose Up
-- What refuses a step names the approvals that do not count, and why: another person's may have expired.
-- +goose StatementBegin
-- approvers says why the approvals of a phase do not open it to who calls.
CREATE FUNCTION migrator.approvers(of_migration text, of_phase text, at_epoch bigint, of_config_hash text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'in this epoch, under this configuration, ' || coalesce(string_agg('the approval of ' || of_phase || ' by ' || actor || CASE
            WHEN until <= clock_timestamp() THEN ' expired at ' || to_char(until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            WHEN actor = migrator.person() THEN ' does not count for a step that ' || actor || ' takes'
            ELSE ' is valid' END, ', ' ORDER BY until DESC, actor), 'there is no approval of ' || of_phase)
        FROM (SELECT a.actor, max(a.expires_at) AS until FROM migrator.approvals a
              WHERE a.migration = of_migration AND a.to_phase::text = of_phase AND a.epoch = at_epoch AND a.config_hash = of_config_hash GROUP BY a.actor) given
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.approvers(text, text, bigint, text) FROM PUBLIC;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.check_people() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    way        text[] := ARRAY['legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'fenced', 'retain', 'complete'];
    into_phase text := CASE NEW.to_phase WHEN 'fenced' THEN 'retain' ELSE NEW.to_phase::text END;
    approval   jsonb;
    two        boolean;
    closed     text;
    passed     text[]; -- phases that a reclaim passes unseen
BEGIN
    IF jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN
        PERFORM migrator.require_member(migrator.decider(NEW.migration), 'override a gate');
    END IF;
    SELECT config::jsonb #> '{phases,approval}' INTO approval FROM migrator.migrations WHERE name = NEW.migration;
    IF NEW.to_phase = 'returning' AND array_position(way, NEW.from_phase::text) < array_position(way, 'grace') THEN
        -- A reclaim that found legacy's fence: the state recorded less than there was. It ends in grace, by no
        -- step that needed an approval, and only legacy's fence, which the state can't see, is its reason.
        SELECT array_agg(p) INTO passed FROM unnest(way[array_position(way, NEW.from_phase::text) + 1 : array_position(way, 'grace')]) p WHERE (approval -> 'for') ? p;
        IF passed IS NOT NULL THEN
            PERFORM migrator.require_member(migrator.decider(NEW.migration), 'reclaim past phases that need an approval');
        END IF;
        IF (approval -> 'two_people') ?| passed AND NOT EXISTS (SELECT FROM migrator.approvals a
               WHERE a.migration = NEW.migration AND a.to_phase = 'grace' AND a.epoch = NEW.from_epoch
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> migrator.person()) THEN
            RAISE EXCEPTION 'a reclaim past % needs two people: %; try: migrator phase approve --to grace, as another person',
                array_to_string(passed, ', '), migrator.approvers(NEW.migration, 'grace', NEW.from_epoch, NEW.config_hash) USING ERRCODE = 'MG011';
        END IF;
        RETURN NEW;
    END IF;
    -- A return that began in retain may be given up to it. One that a reclaim began elsewhere enters it.
    IF (array_position(way, NEW.to_phase::text) > array_position(way, NEW.from_phase::text)) IS NOT TRUE
       AND NOT (NEW.to_phase = NEW.from_phase AND NEW.to_percent > NEW.from_percent)
       AND NOT (NEW.from_phase = 'returning' AND NEW.to_phase = 'retain' AND 'retain' IS DISTINCT FROM (SELECT h.from_phase FROM migrator.history h
                WHERE h.migration = NEW.migration AND h.to_phase = 'returning' AND h.from_phase <> 'returning' ORDER BY h.seq DESC LIMIT 1)) THEN
        RETURN NEW;
    END IF;
    SELECT g ->> 'gate' INTO closed FROM jsonb_array_elements(CASE jsonb_typeof(NEW.evidence -> 'gates') WHEN 'array' THEN NEW.evidence -> 'gates' END) g
        WHERE coalesce(g ->> 'verdict', '') NOT IN ('pass', 'off') AND (coalesce(trim(g ->> 'overridden'), '') = '' OR g -> 'interlock' = 'true') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the gate % is closed', closed USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NEW.from_phase = NEW.to_phase OR NEW.from_phase = 'fenced' THEN
        RETURN NEW;
    END IF;
    IF NOT coalesce((approval -> 'for') ? into_phase, false) THEN
        RETURN NEW;
    END IF;
    two := coalesce((approval -> 'two_people') ? into_phase, false);
    IF NOT two AND jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.gate == "approved" && @.overridden != "")') THEN
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM migrator.approvals a
               WHERE a.migration = NEW.migration AND a.to_phase = into_phase AND a.epoch = NEW.from_epoch
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND (NOT two OR a.actor <> migrator.person())) THEN
        RETURN NEW;
    ELSIF two THEN
        RAISE EXCEPTION '% needs two people: %; try: migrator phase approve, as another person',
            into_phase, migrator.approvers(NEW.migration, into_phase, NEW.from_epoch, NEW.config_hash) USING ERRCODE = 'MG011';
    END IF;
    RAISE EXCEPTION '% needs an approval: %; try: migrator phase approve',
        into_phase, migrator.approvers(NEW.migration, into_phase, NEW.from_epoch, NEW.config_hash) USING ERRCODE = 'MG010';
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.require_deciders(m migrator.migrations, new_config jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before jsonb := coalesce(m.config::jsonb #> '{phases,approval}', '{}');
    after  jsonb := coalesce(new_config #> '{phases,approval}', '{}');
    p      text;
BEGIN
    IF before = after THEN
        RETURN;
    END IF;
    -- A role that does not exist has no members: then the schema's owner corrects it.
    IF coalesce(before ->> 'role', '') = '' OR EXISTS (SELECT FROM pg_roles WHERE rolname = before ->> 'role')
       OR NOT pg_has_role(migrator.person(), (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        PERFORM migrator.require_member(coalesce(before ->> 'role', ''), 'change who decides');
    END IF;
    IF m.phase = 'legacy' THEN
        RETURN;
    END IF;
    FOR p IN SELECT t FROM jsonb_array_elements_text(CASE jsonb_typeof(before -> 'two_people') WHEN 'array' THEN before -> 'two_people' END) t WHERE (before -> 'for') ? t LOOP
        CONTINUE WHEN coalesce((after -> 'two_people') ? p AND (after -> 'for') ? p, false);
        IF NOT EXISTS (SELECT FROM migrator.approvals a WHERE a.migration = m.name AND a.to_phase = p AND a.epoch = m.epoch
                       AND a.config_hash = m.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> migrator.person()) THEN
            RAISE EXCEPTION '% needs two people, and so does ending that: %; try: migrator phase approve, as another person, or change it in legacy',
                p, migrator.approvers(m.name, p, m.epoch, m.config_hash) USING ERRCODE = 'MG011';
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.sign_runbook_step() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_run migrator.runbook_runs;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the steps of a runbook''s run are kept';
    END IF;
    SELECT * INTO of_run FROM migrator.runbook_runs WHERE id = NEW.run;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := migrator.person();
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
    NEW.ended_by := migrator.person();
    NEW.outcome_at := clock_timestamp();
    IF NEW.kind = 'approve' THEN
        PERFORM migrator.require_member(migrator.decider(of_run.migration), 'approve');
        PERFORM migrator.require_member(coalesce(NEW.intent ->> 'role', ''), 'approve');
        IF coalesce((NEW.intent ->> 'two_people')::boolean, false) AND NEW.outcome = 'done' AND of_run.actor = migrator.person() THEN
            RAISE EXCEPTION 'step % needs two people: % began the run; try: migrator runbook approve, as another person', NEW.step, migrator.person() USING ERRCODE = 'MG010';
        END IF;
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
