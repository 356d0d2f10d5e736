-- +goose Up
-- Decisions are made by functions: no role but the schema's owner writes their tables. Each function asks
-- migrator.require, takes the route it starts from, the actor and the time from the database, and refuses
-- what the rules of authority refuse, whatever the program that calls it has computed.

-- Configurations are stored once, by a hash that the database computes, and never change.
CREATE TABLE migrator.configurations (
    migration   text        NOT NULL,
    hash        text        NOT NULL, -- SHA-256 of the texts below, each as <bytes>:<text>
    config      json        NOT NULL, -- the migration file, without secrets
    config_hash text        NOT NULL, -- that evidence and approvals are bound to
    schema      json        NOT NULL,
    environment text        NOT NULL,
    actor       text        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (migration, hash)
);
CREATE INDEX ON migrator.configurations (migration, config_hash);
ALTER TABLE migrator.migrations ADD COLUMN configuration text NOT NULL DEFAULT '';

-- +goose StatementBegin
-- what_matters is a migration file without what may be tuned. migration.Config.Hash leaves the same out.
CREATE FUNCTION migrator.what_matters(config jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT config - ARRAY['fleet', 'backfill', 'reconcile', 'compare', 'exclude', 'phases'] || jsonb_build_object(
            'phases', coalesce(config -> 'phases', '{}') - ARRAY['dual_read', 'cutover', 'grace'] || jsonb_build_object(
                'dual_read', coalesce(config #> '{phases,dual_read}', '{}') - 'auto',
                'cutover', coalesce(config #> '{phases,cutover}', '{}') - 'auto' - 'shadow',
                'grace', coalesce(config #> '{phases,grace}', '{}') - 'shadow'),
            'reconcile', jsonb_build_object('pause', config #> '{reconcile,pause}', 'rereads', config #> '{reconcile,rereads}'),
            'exclude', (SELECT jsonb_agg(e ORDER BY e::text) FROM jsonb_array_elements(CASE jsonb_typeof(config -> 'exclude') WHEN 'array' THEN config -> 'exclude' END) e),
            'compare', (SELECT jsonb_agg(CASE WHEN coalesce(r ->> 'ignore', '') <> '' THEN jsonb_set(r - 'show', '{ignore}', '"yes"') ELSE r - 'show' END ORDER BY r ->> 'path', r::text)
                FROM jsonb_array_elements(CASE jsonb_typeof(config -> 'compare') WHEN 'array' THEN config -> 'compare' END) r
                WHERE coalesce(r ->> 'ignore', '') <> '' OR coalesce(r ->> 'tolerance', '') <> '' OR coalesce(r ->> 'precision', '0') <> '0' OR coalesce(r ->> 'as', '') <> ''))
$$;

CREATE FUNCTION migrator.keep_configuration() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.configuration := encode(sha256(migrator.netstring(NEW.config::text) || migrator.netstring(NEW.config_hash)
        || migrator.netstring(NEW.schema::text) || migrator.netstring(NEW.environment)), 'hex');
    -- A config hash stands for one configuration, but for what may be tuned: evidence and approvals of
    -- another one can't be reused under its name.
    IF EXISTS (SELECT FROM migrator.configurations c WHERE c.migration = NEW.name AND c.config_hash = NEW.config_hash
               AND migrator.what_matters(c.config::jsonb) <> migrator.what_matters(NEW.config::jsonb)) THEN
        RAISE EXCEPTION 'the config hash % stands for another configuration of %', left(NEW.config_hash, 12), NEW.name USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.configurations (migration, hash, config, config_hash, schema, environment, actor, at)
    VALUES (NEW.name, NEW.configuration, NEW.config, NEW.config_hash, NEW.schema, NEW.environment, session_user, clock_timestamp())
    ON CONFLICT DO NOTHING;
    RETURN NEW;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.keep_configuration() FROM PUBLIC;
CREATE TRIGGER keep_configuration BEFORE INSERT OR UPDATE OF config, config_hash, schema, environment, configuration ON migrator.migrations
    FOR EACH ROW EXECUTE FUNCTION migrator.keep_configuration();
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.configurations
    FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();
UPDATE migrator.migrations SET configuration = '';
ALTER TABLE migrator.migrations ALTER COLUMN configuration DROP DEFAULT,
    ADD FOREIGN KEY (name, configuration) REFERENCES migrator.configurations (migration, hash);

-- +goose StatementBegin
-- require_one is require for a verb that several kinds of grants permit.
CREATE FUNCTION migrator.require_one(of_migration text, VARIADIC kinds text[]) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE kind text;
BEGIN
    FOREACH kind IN ARRAY kinds LOOP
        IF migrator.may(kind, of_migration) THEN
            RETURN;
        END IF;
    END LOOP;
    PERFORM migrator.require(kinds[1], of_migration);
END $$;

-- note_entry adds an entry that changes no route. It is for the functions of this schema: each writes
-- causes of its own.
CREATE FUNCTION migrator.note_entry(of_migration text, of_cause text, why text, of_evidence jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    INSERT INTO migrator.history (migration, cause, from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch, reason, config_hash, evidence)
    SELECT name, of_cause, phase, percent, epoch, phase, percent, epoch, left(why, 10000), config_hash, of_evidence FROM migrator.migrations WHERE name = of_migration;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration %', of_migration USING ERRCODE = 'no_data_found';
    END IF;
END $$;

-- note is for what an operator's process has seen: it decides nothing.
CREATE FUNCTION migrator.note(of_migration text, of_cause text, why text, of_evidence jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF of_cause NOT IN ('loss', 'table') THEN
        RAISE EXCEPTION 'an entry with the cause % is written by the command of that name alone', of_cause USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF jsonb_path_exists(of_evidence, '$.gates') OR jsonb_path_exists(of_evidence, '$.fired') THEN
        RAISE EXCEPTION 'an entry that changes no route has no gates' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM migrator.note_entry(of_migration, of_cause, why, of_evidence);
END $$;

CREATE FUNCTION migrator.create_migration(of_name text, of_environment text, of_config text, of_config_hash text, of_schema text,
    of_reversible boolean, of_lease_ms bigint, of_renew_ms bigint, of_moves text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_name);
    INSERT INTO migrator.migrations (name, environment, config, config_hash, schema, reversible, lease_ms, renew_ms, moves,
            phase, percent, epoch, phase_since, route_since, configuration)
    SELECT of_name, of_environment, of_config::json, of_config_hash, of_schema::json, of_reversible, of_lease_ms, of_renew_ms, of_moves, 'legacy', 0,
        -- [epoch-grows]: above those of a forgotten migration of this name, which its instances may remember.
        1 + coalesce((SELECT max(last_epoch) FROM migrator.forgotten WHERE migration = of_name), 0), clock_timestamp(), clock_timestamp(), ''
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at, settled_at)
        SELECT name, epoch, phase, percent, route_since, route_since FROM migrator.migrations WHERE name = of_name;
    PERFORM migrator.note_entry(of_name, 'created', '', jsonb_build_object('environment', of_environment, 'reversible', of_reversible));
    RETURN true;
END $$;

-- require_deciders refuses to change who decides: only a member of the role that decided before may, and
-- a phase that needs two people stops needing them only where two agree to that: another person has
-- approved it in this epoch. In legacy nothing has moved yet.
CREATE FUNCTION migrator.require_deciders(m migrator.migrations, new_config jsonb) RETURNS void
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
       OR NOT pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        PERFORM migrator.require_member(coalesce(before ->> 'role', ''), 'change who decides');
    END IF;
    IF m.phase = 'legacy' THEN
        RETURN;
    END IF;
    FOR p IN SELECT t FROM jsonb_array_elements_text(CASE jsonb_typeof(before -> 'two_people') WHEN 'array' THEN before -> 'two_people' END) t WHERE (before -> 'for') ? t LOOP
        CONTINUE WHEN coalesce((after -> 'two_people') ? p AND (after -> 'for') ? p, false);
        IF NOT EXISTS (SELECT FROM migrator.approvals a WHERE a.migration = m.name AND a.to_phase = p AND a.epoch = m.epoch
                       AND a.config_hash = m.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> session_user) THEN
            RAISE EXCEPTION '% needs two people, and so does ending that: only % has approved % in this epoch; try: migrator phase approve, as another person, or change it in legacy',
                p, session_user, p USING ERRCODE = 'MG011';
        END IF;
    END LOOP;
END $$;

-- change_configuration stores another migration file. how is note, or epoch where the route's share of compared
-- reads changes, or columns where other columns are moved from now on.
CREATE FUNCTION migrator.change_configuration(of_name text, of_environment text, of_config text, of_config_hash text, of_schema text,
    of_reversible boolean, of_lease_ms bigint, of_renew_ms bigint, of_moves text, how text, why text, of_evidence jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE m migrator.migrations;
BEGIN
    PERFORM migrator.require('operator', of_name);
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = of_name FOR UPDATE;
    PERFORM migrator.require_deciders(m, of_config::jsonb);
    IF how IN ('note', 'epoch') AND m.phase <> 'legacy' AND m.moves <> '' AND m.moves <> of_moves THEN
        RAISE EXCEPTION 'what is moved can''t be changed at %', m.phase USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF m.reversible <> of_reversible AND m.phase IN ('fenced', 'lifting', 'returning', 'retain', 'complete') THEN
        RAISE EXCEPTION 'reversible can''t be changed at %', m.phase USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF how <> 'note' AND m.attempt <> '' THEN
        -- [fence-attempt]: the attempt's own steps compare the epoch.
        RAISE EXCEPTION 'a new epoch can''t begin while the attempt % of a fence is recorded', m.attempt USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF how NOT IN ('note', 'epoch', 'columns') THEN
        RAISE EXCEPTION 'unknown way of a change: %', how USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE migrator.migrations SET environment = of_environment, config = of_config::json, config_hash = of_config_hash, schema = of_schema::json,
        reversible = of_reversible, lease_ms = of_lease_ms, renew_ms = of_renew_ms, moves = of_moves,
        former_moves = CASE WHEN phase = 'legacy' THEN '' ELSE former_moves END,
        former_schema = CASE WHEN phase <> 'legacy' THEN former_schema END,
        fault = CASE WHEN of_environment = 'staging' THEN fault END, fault_until = CASE WHEN of_environment = 'staging' THEN fault_until END
        WHERE name = of_name;
    IF m.moves <> of_moves THEN -- what was seen compares with the columns of before
        DELETE FROM migrator.columns_seen WHERE migration = of_name;
    END IF;
    CASE how
        WHEN 'note' THEN PERFORM migrator.note_entry(of_name, 'config', why, of_evidence);
        WHEN 'epoch' THEN PERFORM migrator.move(m.name, m.epoch, m.phase, m.percent, 'config', why, of_evidence, '', 0);
        ELSE PERFORM migrator.change_fields(m.name, m.schema, m.moves, why, of_evidence);
    END CASE;
END $$;

-- lawful_step is phases.Legal without the fleet, and phases.Reclaimed: the steps that there are, and the causes of each.
CREATE FUNCTION migrator.lawful_step(from_phase text, from_percent integer, to_phase text, to_percent integer, cause text, reclaim boolean) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_percent BETWEEN 0 AND 10000 AND (to_phase IN ('dual-read', 'cutover')) = (to_percent > 0) AND CASE
        WHEN reclaim THEN cause = 'rollback' AND from_phase <> 'complete' AND (
            to_phase = 'returning'
            OR to_phase = 'lifting' AND from_phase IN ('fenced', 'lifting', 'returning')
            OR to_phase = 'dual-read' AND to_percent = 10000 AND from_phase IN ('dual-read', 'cutover', 'grace')
            OR to_phase = from_phase AND to_phase IN ('legacy', 'shadow-write'))
        WHEN from_phase = to_phase THEN to_percent <> from_percent AND cause = ANY (CASE WHEN to_percent > from_percent
            THEN ARRAY['advance', 'schedule'] ELSE ARRAY['rollback', 'trigger', 'loss'] END)
        WHEN cause = 'advance' THEN (from_phase, to_phase) IN (('legacy', 'shadow-write'), ('shadow-write', 'dual-read'), ('dual-read', 'cutover'),
            ('cutover', 'grace'), ('grace', 'fenced'), ('fenced', 'retain'), ('retain', 'complete'))
        WHEN cause = 'fence' THEN (from_phase, to_phase) IN (('grace', 'fenced'), ('grace', 'lifting'), ('fenced', 'lifting'), ('fenced', 'retain'), ('lifting', 'grace'),
            ('returning', 'grace'))
        WHEN cause IN ('rollback', 'trigger', 'loss') THEN (from_phase, to_phase) IN (('shadow-write', 'legacy'), ('dual-read', 'shadow-write'), ('cutover', 'dual-read'),
            ('grace', 'dual-read'), ('grace', 'cutover'), ('grace', 'lifting'), ('fenced', 'lifting'), ('lifting', 'grace'), ('retain', 'returning'),
            ('returning', 'grace'), ('returning', 'retain'))
        ELSE false END
$$;

-- transition commits one move. state.Store.Transition decides it in the same transaction, with the row locked.
CREATE FUNCTION migrator.transition(of_name text, from_epoch bigint, new_phase text, new_percent integer, of_cause text, why text, of_evidence jsonb,
    of_attempt text, of_fence_era bigint, of_first_fence_era bigint, return_keys bigint, accept_missing bigint, sets_aside boolean, reclaim boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m      migrator.migrations;
    number bigint;
BEGIN
    PERFORM migrator.require('operator', of_name);
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = of_name FOR UPDATE;
    IF NOT migrator.lawful_step(m.phase, m.percent, new_phase, new_percent, of_cause, reclaim) THEN
        RAISE EXCEPTION 'no step of the cause % leads from % (%) to % (%)', of_cause, m.phase, m.percent, new_phase, new_percent
            USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF of_fence_era NOT BETWEEN 0 AND 4294967295 OR of_first_fence_era NOT BETWEEN 0 AND 4294967295 OR accept_missing < 0 OR length(of_attempt) > 100 THEN
        RAISE EXCEPTION 'an era or an attempt that can''t be' USING ERRCODE = 'invalid_parameter_value';
    ELSIF NOT reclaim AND m.attempt <> '' AND m.phase = 'grace' AND new_phase NOT IN ('fenced', 'lifting') THEN
        -- [fence-attempt]: the fence of an attempt recorded in grace may be raised already.
        RAISE EXCEPTION 'a fence may stand on legacy (attempt %)', m.attempt USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- A rollback by a trigger rests on an evaluation that can be shown later.
    IF (of_cause = 'trigger') <> (of_evidence ? 'fired') OR of_cause = 'trigger' AND NOT EXISTS (SELECT FROM migrator.evaluations
            WHERE id = (of_evidence #>> '{fired,evaluation}')::bigint AND migration = of_name AND kind = 'trigger'
              AND name = of_evidence #>> '{fired,trigger}' AND verdict = 'firing' AND NOT dry_run) THEN
        RAISE EXCEPTION 'a rollback by a trigger, and no other move, names the evaluation that fired' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF jsonb_path_exists(of_evidence, '$.gates[*] ? (@.overridden != "")') THEN
        of_evidence := of_evidence || jsonb_build_object('decider', migrator.decider(of_name)); -- the role by which the actor may
    END IF;
    number := migrator.move(of_name, from_epoch, new_phase, new_percent, of_cause, left(why, 10000), of_evidence, of_attempt, of_fence_era);
    IF new_phase = 'returning' THEN
        PERFORM migrator.accept_missing(of_name, accept_missing), migrator.hold_return(of_name, return_keys, sets_aside);
    END IF;
    IF of_first_fence_era > 0 THEN
        PERFORM migrator.first_fenced(of_name, of_first_fence_era);
    END IF;
    IF reclaim THEN
        -- [loss-unclean]: a mark of its own, since a reclaim may follow a restore that no instance
        -- has reported. [reclaim-scan]: return_lost makes the return scan the target, also if
        -- another command resumes it.
        UPDATE migrator.migrations SET reclaimed_at = clock_timestamp(), return_lost = new_phase = 'returning' WHERE name = of_name;
    ELSIF new_phase = 'grace' THEN
        UPDATE migrator.migrations SET return_lost = false, return_accepted = 0 WHERE name = of_name AND (return_lost OR return_accepted > 0);
    END IF;
    -- Leases that ended long ago are deleted. [unclean-mark]: a lease with a mark stays, however old.
    DELETE FROM migrator.leases WHERE migration = of_name AND ended_at < clock_timestamp() - interval '30 days' AND lost_at IS NULL;
    RETURN number;
END $$;

-- intend records the attempt of a fence before the fence is raised; give_up_attempt deletes the record of one
-- whose fence never was.
CREATE FUNCTION migrator.intend(of_name text, at_epoch bigint, of_attempt text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_name);
    -- [fence-attempt], [one-decides]: compare-and-set on the epoch and the absence of another attempt.
    UPDATE migrator.migrations SET attempt = of_attempt
    WHERE name = of_name AND epoch = at_epoch AND phase = 'grace' AND attempt = '' AND length(of_attempt) BETWEEN 1 AND 100;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a fence is attempted from grace, by one command at a time' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.note_entry(of_name, 'fence', 'about to fence legacy', jsonb_build_object('attempt', of_attempt));
END $$;

CREATE FUNCTION migrator.give_up_attempt(of_name text, of_attempt text, why text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_name);
    -- [one-decides]: compare-and-set on phase and attempt: a later attempt's record stays.
    UPDATE migrator.migrations SET attempt = '' WHERE name = of_name AND phase = 'grace' AND attempt = of_attempt AND of_attempt <> '';
    IF FOUND THEN
        PERFORM migrator.note_entry(of_name, 'fence', 'legacy was not fenced: ' || why, jsonb_build_object('attempt', of_attempt));
    END IF;
END $$;

-- note_return records what a person allowed a return in progress, or what it did by that.
CREATE FUNCTION migrator.note_return(of_migration text, why text, of_evidence jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF NOT EXISTS (SELECT FROM migrator.migrations WHERE name = of_migration AND phase = 'returning') OR of_evidence ? 'gates' OR of_evidence ? 'fired' THEN
        RAISE EXCEPTION 'there is no return in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.note_entry(of_migration, 'rollback', why, of_evidence);
END $$;

CREATE FUNCTION migrator.approve(of_migration text, new_phase text, as_role text, why text, microseconds bigint,
    OUT actor text, OUT to_phase text, OUT epoch bigint, OUT config_hash text, OUT expires_at timestamptz, OUT reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_one(of_migration, 'decider', 'operator');
    IF new_phase NOT IN ('legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'retain', 'complete')
       OR microseconds NOT BETWEEN 1 AND 366::bigint * 86400 * 1000000 THEN
        RAISE EXCEPTION 'an approval is of a phase, and ends within a year' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Bound to the present epoch and configuration: an approval opens no later step. The trigger gives
    -- actor, time and role, and refuses who is no member of the role.
    INSERT INTO migrator.approvals AS a (migration, to_phase, epoch, config_hash, role, reason, expires_at)
        SELECT m.name, new_phase, m.epoch, m.config_hash, as_role, left(why, 10000), clock_timestamp() + microseconds * interval '1 microsecond'
        FROM migrator.migrations m WHERE m.name = of_migration FOR UPDATE
        RETURNING a.actor, a.to_phase, a.epoch, a.config_hash, a.expires_at, a.reason
        INTO STRICT approve.actor, approve.to_phase, approve.epoch, approve.config_hash, approve.expires_at, approve.reason;
    PERFORM migrator.note_entry(of_migration, 'approve', why, jsonb_build_object('to', new_phase, 'role', as_role, 'expires', approve.expires_at));
END $$;

CREATE FUNCTION migrator.acknowledge(of_migration text, why text, of_latch jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_one(of_migration, 'decider', 'operator');
    PERFORM FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    IF trim(why) = '' THEN
        RAISE EXCEPTION 'an acknowledgement needs a reason' USING ERRCODE = 'invalid_parameter_value';
    ELSIF (SELECT cause FROM migrator.history WHERE migration = of_migration AND cause IN ('trigger', 'acknowledge', 'forgotten') ORDER BY seq DESC LIMIT 1) = 'trigger' THEN
        PERFORM migrator.note_entry(of_migration, 'acknowledge', why, jsonb_build_object('acknowledged', of_latch));
    END IF;
END $$;

-- pause closes the gate not-paused, for a reason; '' opens it again.
CREATE FUNCTION migrator.pause(of_migration text, new_paused text, why text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_one(of_migration, 'decider', 'operator');
    -- The statement compares: pausing twice for one reason writes one entry of the history.
    UPDATE migrator.migrations SET paused = left(new_paused, 10000) WHERE name = of_migration AND paused <> left(new_paused, 10000);
    IF FOUND THEN
        PERFORM migrator.note_entry(of_migration, CASE WHEN new_paused = '' THEN 'resume' ELSE 'pause' END, why, '{}');
    END IF;
END $$;

CREATE FUNCTION migrator.inject_fault(of_migration text, new_fault jsonb, milliseconds bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF milliseconds NOT BETWEEN 1 AND 3600000 OR jsonb_typeof(new_fault) <> 'object' OR coalesce(length(new_fault ->> 'id'), 0) NOT BETWEEN 1 AND 256 THEN
        RAISE EXCEPTION 'a fault has an id, and ends by itself within an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE migrator.migrations SET fault = new_fault, fault_until = clock_timestamp() + milliseconds * interval '1 millisecond'
    WHERE name = of_migration AND environment = 'staging' AND (fault IS NULL OR fault_until <= clock_timestamp());
    RETURN FOUND;
END $$;

CREATE FUNCTION migrator.lift_fault(of_migration text, of_fault text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET fault = NULL, fault_until = NULL WHERE name = of_migration AND fault ->> 'id' = of_fault
$$;

CREATE FUNCTION migrator.begin_forget(of_migration text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET forgetting_at = coalesce(forgetting_at, clock_timestamp())
    WHERE name = of_migration AND phase IN ('legacy', 'shadow-write', 'complete') AND (attempt = '' OR phase = 'complete')
      AND NOT EXISTS (SELECT FROM migrator.leases WHERE migration = of_migration AND (ended_at IS NULL OR ended_at > clock_timestamp()));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the migration % is in use', of_migration USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;

CREATE FUNCTION migrator.note_forget_era(of_migration text, era bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET forgetting_era = greatest(forgetting_era, fence_era, era) WHERE name = of_migration AND forgetting_at IS NOT NULL;
END $$;

-- forget deletes what the state has of a migration, but for what is kept for ever, and ends its history.
CREATE FUNCTION migrator.forget(of_migration text, why text, removed jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept constant text[] := ARRAY['history', 'approvals', 'runbook_runs', 'evaluations', 'forgotten', 'grants', 'configurations', 'reconcile_runs'];
    t    text;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM FROM migrator.migrations WHERE name = of_migration AND forgetting_at IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the migration is not being forgotten' USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF EXISTS (SELECT FROM migrator.leases WHERE migration = of_migration AND (ended_at IS NULL OR ended_at > clock_timestamp())) THEN
        RAISE EXCEPTION 'the migration % is in use', of_migration USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.note_entry(of_migration, 'forgotten', why, removed);
    INSERT INTO migrator.forgotten (migration, era, last_epoch, last_seq, last_hash)
        SELECT h.migration, m.forgetting_era, h.to_epoch, h.seq, h.hash FROM migrator.history h JOIN migrator.migrations m ON m.name = h.migration
        WHERE h.migration = of_migration ORDER BY h.seq DESC LIMIT 1;
    DELETE FROM migrator.reconcile_coverage WHERE run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = of_migration);
    DELETE FROM migrator.reconcile_findings WHERE run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = of_migration);
    DELETE FROM migrator.reconcile_jobs WHERE run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = of_migration);
    DELETE FROM migrator.reconcile_runs WHERE migration = of_migration;
    FOR t IN SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'migration' AND NOT a.attisdropped
             WHERE c.relnamespace = 'migrator'::regnamespace AND c.relkind = 'r' AND c.relname <> ALL (kept) ORDER BY 1 LOOP
        EXECUTE format('DELETE FROM migrator.%I WHERE migration = $1', t) USING of_migration;
    END LOOP;
    DELETE FROM migrator.migrations WHERE name = of_migration;
END $$;

-- evict ends the lapsed leases of an instance that a person says has stopped; by force also one that is live:
-- its route counts until it would have expired, by the longest lease that the state gives.
CREATE FUNCTION migrator.evict(of_migration text, of_instance text, why text, by_force boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz;
    ended  jsonb;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF trim(why) = '' THEN
        RAISE EXCEPTION 'an eviction needs a reason' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    now_at := clock_timestamp();
    -- [unclean-mark]: no process knows what the instance had in flight. [lapsed-blocks]: only a
    -- lapsed lease is evicted, unless by force: an instance that renews would continue without one.
    WITH evicted AS (
        UPDATE migrator.leases l SET ended = 'evicted', ended_at = least(greatest(l.expires_at, now_at), now_at + interval '5 minutes'),
            lost_at = CASE WHEN migrator.lost_writes(l.migration, l.acknowledged_epoch)
                           THEN least(greatest(l.expires_at, now_at), now_at + interval '5 minutes') END
        WHERE migration = of_migration AND instance = of_instance
          AND (ended_at IS NULL OR by_force AND l.ended = 'superseded' AND ended_at > now_at) AND (expires_at <= now_at OR by_force)
        RETURNING jsonb_build_object('lease', id, 'about', about, 'acknowledged_epoch', acknowledged_epoch, 'expired', expires_at,
            'dirty', lost_at IS NOT NULL, 'counts_until', ended_at) AS lease)
    SELECT jsonb_agg(lease) INTO ended FROM evicted;
    IF ended IS NOT NULL THEN
        PERFORM migrator.note_entry(of_migration, 'evict', why, jsonb_build_object('instance', of_instance, 'forced', by_force, 'leases', ended));
    END IF;
    RETURN coalesce(jsonb_array_length(ended), 0);
END $$;

-- close_fields ends the time in which instances may move the columns of before.
CREATE FUNCTION migrator.close_fields(of_migration text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET former_moves = '', former_schema = NULL WHERE name = of_migration AND phase IN ('shadow-write', 'dual-read')
$$;

CREATE FUNCTION migrator.see_columns_again(of_migration text, of_config_hash text, of_side text, same_changes jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.columns_seen c SET seen_at = clock_timestamp() FROM migrator.migrations m
    WHERE m.name = of_migration AND m.config_hash = of_config_hash AND c.migration = m.name AND c.side = of_side AND c.changes = same_changes;
    RETURN FOUND;
END $$;

CREATE FUNCTION migrator.note_bypass(of_migration text, looked timestamptz, next migrator.bypass) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF next.migration <> of_migration OR next.epoch > (SELECT epoch FROM migrator.migrations WHERE name = of_migration)
       OR next.looked_at > clock_timestamp() OR next.began_at > next.looked_at OR next.judged = 'NaN' OR next.judged = 'Infinity' THEN
        RAISE EXCEPTION 'a look at legacy''s counters that can''t be' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.bypass AS b SELECT next.*
    ON CONFLICT (migration) DO UPDATE SET stay = excluded.stay, epoch = excluded.epoch, began_at = excluded.began_at, looked_at = excluded.looked_at,
        judged = excluded.judged, why = excluded.why, counters = excluded.counters, samples = excluded.samples, discarded = excluded.discarded,
        "least" = excluded."least", most = excluded.most, first_at = excluded.first_at, last_at = excluded.last_at, writers = excluded.writers
    WHERE b.stay <> excluded.stay OR b.looked_at = looked;
    RETURN FOUND;
END $$;

-- clear_journal removes a journalled key that was repaired, unless it has been journalled again since.
CREATE FUNCTION migrator.clear_journal(of_migration text, of_key bytea, had_changes bigint, since timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- [journal-changes]: compare-and-set on what was read before the repair.
    DELETE FROM migrator.journal WHERE migration = of_migration AND key = of_key AND changes = had_changes AND (since IS NULL OR first_at = since);
    RETURN FOUND;
END $$;

DROP FUNCTION migrator.newest_change();
CREATE FUNCTION migrator.newest_change(of_migration text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', of_migration);
    SELECT last_value FROM migrator.return_changes
$$;

-- The server is of all migrations, and so is the right to note it.
CREATE OR REPLACE FUNCTION migrator.note_server() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT migrator.require('operator', '*');
    INSERT INTO migrator.servers (server)
    SELECT now.server FROM (SELECT migrator.server() AS server) now
    WHERE now.server IS DISTINCT FROM (SELECT server FROM migrator.servers ORDER BY id DESC LIMIT 1) AND now.server IS NOT NULL
$$;

-- An approval is demanded here too, of every path that enters a phase that needs one, unless a member of the
-- deciding role overrides that; two people can't be overridden.
CREATE OR REPLACE FUNCTION migrator.check_people() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    way        text[] := ARRAY['legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'fenced', 'retain', 'complete'];
    into_phase text := CASE NEW.to_phase WHEN 'fenced' THEN 'retain' ELSE NEW.to_phase::text END;
    approval   jsonb;
    two        boolean;
    closed     text;
BEGIN
    IF jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN
        PERFORM migrator.require_member(migrator.decider(NEW.migration), 'override a gate');
    END IF;
    IF (array_position(way, NEW.to_phase::text) > array_position(way, NEW.from_phase::text)) IS NOT TRUE
       AND NOT (NEW.to_phase = NEW.from_phase AND NEW.to_percent > NEW.from_percent) THEN
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
    SELECT config::jsonb #> '{phases,approval}' INTO approval FROM migrator.migrations WHERE name = NEW.migration;
    IF NOT coalesce((approval -> 'for') ? into_phase, false) THEN
        RETURN NEW;
    END IF;
    two := coalesce((approval -> 'two_people') ? into_phase, false);
    IF NOT two AND jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.gate == "approved" && @.overridden != "")') THEN
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM migrator.approvals a
               WHERE a.migration = NEW.migration AND a.to_phase = into_phase AND a.epoch = NEW.from_epoch
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND (NOT two OR a.actor <> session_user)) THEN
        RETURN NEW;
    ELSIF two THEN
        RAISE EXCEPTION '% needs two people: only % has approved it in this epoch, under this configuration; try: migrator phase approve, as another person',
            into_phase, session_user USING ERRCODE = 'MG011';
    END IF;
    RAISE EXCEPTION '% needs an approval in this epoch, under this configuration; try: migrator phase approve', into_phase USING ERRCODE = 'MG010';
END $$;

CREATE OR REPLACE FUNCTION migrator.accept_missing(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET return_accepted = records WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lost records are accepted only for a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.allow_set_aside(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET return_sets_aside = true WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'records are set aside only by a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.begin_return(of_migration text, at_epoch bigint, to_legacy text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    INSERT INTO migrator.returns AS r (migration, legacy) VALUES (of_migration, to_legacy)
        ON CONFLICT (migration) DO UPDATE SET legacy = to_legacy,
            copied = CASE WHEN r.legacy = to_legacy THEN r.copied ELSE r.floor END;
END $function$;

CREATE OR REPLACE FUNCTION migrator.chain_history()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    last record;
BEGIN
    PERFORM FROM migrator.migrations WHERE name = NEW.migration FOR UPDATE; -- one entry after the other
    SELECT h.seq, h.hash INTO last FROM migrator.history h
        WHERE h.migration = NEW.migration ORDER BY h.seq DESC LIMIT 1;
    NEW.seq := coalesce(last.seq, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.actor := session_user;
    NEW.prev_hash := coalesce(last.hash, ''::bytea);
    NEW.hash := sha256(NEW.prev_hash
        || migrator.netstring(NEW.migration)
        || migrator.netstring(NEW.seq::text)
        || migrator.netstring(to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || migrator.netstring(NEW.actor)
        || migrator.netstring(NEW.cause)
        || migrator.netstring(NEW.from_phase)
        || migrator.netstring(NEW.from_percent::text)
        || migrator.netstring(NEW.from_epoch::text)
        || migrator.netstring(NEW.to_phase)
        || migrator.netstring(NEW.to_percent::text)
        || migrator.netstring(NEW.to_epoch::text)
        || migrator.netstring(NEW.reason)
        || migrator.netstring(NEW.config_hash)
        || migrator.netstring(NEW.evidence::text));
    UPDATE migrator.migrations SET history_seq = NEW.seq WHERE name = NEW.migration;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.change_fields(of_migration text, was_schema json, was_moves text, in_reason text, in_evidence jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    m migrator.migrations;
    number bigint;
BEGIN
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    IF m.phase NOT IN ('shadow-write', 'dual-read') THEN
        RAISE EXCEPTION 'the columns of % can''t be changed at %', m.name, m.phase USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    number := migrator.move(m.name, m.epoch, m.phase, m.percent, 'config', in_reason, in_evidence, m.attempt, 0);
    UPDATE migrator.migrations SET former_schema = was_schema, former_moves = was_moves, fields_epoch = number WHERE name = m.name;
    -- [fields-filled]: what was copied lacks the new columns.
    UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = m.name AND finished_at IS NULL AND void_at IS NULL;
    DELETE FROM migrator.columns_seen WHERE migration = m.name;
    RETURN number;
END $function$;

CREATE OR REPLACE FUNCTION migrator.changed_server()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT coalesce((SELECT s.server || ' before, ' || now.server || ' now'
        FROM (SELECT migrator.server() AS server) now,
             (SELECT server FROM migrator.servers ORDER BY id DESC LIMIT 1) s
        WHERE s.server <> now.server), '')
$function$;

CREATE OR REPLACE FUNCTION migrator.empty_return(of_migration text, at_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    IF EXISTS (SELECT FROM migrator.return_journal j LEFT JOIN migrator.returns r ON r.migration = j.migration
               WHERE j.migration = of_migration AND j.changes > coalesce(greatest(r.floor, r.copied), 0)) THEN
        RAISE EXCEPTION 'legacy lacks keys of the return journal' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE migrator.returns SET floor = last.value, copied = last.value, total = 0
        FROM (SELECT nextval('migrator.return_changes') AS value) AS last WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.finalize_return(of_migration text, at_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    UPDATE migrator.returns SET final = true WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_aside(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET set_aside = set_aside + records
    WHERE name = of_migration AND phase = 'returning' AND return_sets_aside AND records > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the return in progress sets no record aside' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_missing(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET return_accepted = return_accepted - records
    WHERE name = of_migration AND phase = 'returning' AND return_accepted >= records AND records > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the target has lost more records than were accepted' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.mark_unclean(of_migration, 'the target lost records, and legacy has older states of them');
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_return(of_migration text, keys bytea[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE gone bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    DELETE FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (keys);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE migrator.returns SET total = greatest(total - gone, 0) WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.lose_target(of_migration text, of_incarnation text, why text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.marks SET lost_at = clock_timestamp(), lost = left(why, 500), doubted_at = clock_timestamp()
    WHERE migration = of_migration AND incarnation = of_incarnation AND lost_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM migrator.mark_unclean(of_migration, why);
    RETURN true;
END $function$;

CREATE OR REPLACE FUNCTION migrator.mark_copied(of_migration text, at_epoch bigint, to_legacy text, up_to bigint, not_copied bytea[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    -- In the order in which writers lock them.
    PERFORM FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (not_copied) ORDER BY key FOR UPDATE;
    UPDATE migrator.return_journal SET changes = changes WHERE migration = of_migration AND key = ANY (not_copied) AND changes <= up_to;
    UPDATE migrator.returns SET copied = greatest(copied, up_to) WHERE migration = of_migration AND legacy = to_legacy;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'copies go to another legacy' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.mark_of(of_migration text, OUT owner text, OUT incarnation text, OUT confirmed bigint, OUT lost text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT k.migration || '@' || i.id, k.incarnation, k.confirmed, k.lost
    FROM migrator.marks k, migrator.identity i WHERE k.migration = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.prune_return(of_migration text, most integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE gone bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    DELETE FROM migrator.return_journal j USING (
        SELECT e.key, e.changes FROM migrator.return_journal e
        WHERE e.migration = of_migration AND e.changes <= (SELECT r.floor FROM migrator.returns r WHERE r.migration = of_migration)
        ORDER BY e.changes LIMIT most FOR UPDATE SKIP LOCKED) AS void
        WHERE j.migration = of_migration AND j.key = void.key AND j.changes = void.changes;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $function$;

CREATE OR REPLACE FUNCTION migrator.see_columns(of_migration text, of_side text, new_changes jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    before jsonb;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    SELECT changes INTO before FROM migrator.columns_seen WHERE migration = of_migration AND side = of_side;
    INSERT INTO migrator.columns_seen (migration, side, changes, seen_at) VALUES (of_migration, of_side, new_changes, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET changes = excluded.changes, seen_at = excluded.seen_at;
    RETURN before;
END $function$;

CREATE OR REPLACE FUNCTION migrator.doubt_target(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.marks SET doubted_at = clock_timestamp() WHERE migration = of_migration;
    SELECT migrator.mark_unclean(of_migration, why)
$function$;

CREATE OR REPLACE FUNCTION migrator.find_target(of_migration text, of_incarnation text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    WITH found AS (UPDATE migrator.marks SET lost_at = NULL, lost = ''
        WHERE migration = of_migration AND incarnation = of_incarnation AND lost_at IS NOT NULL RETURNING true)
    SELECT EXISTS (SELECT FROM found)
$function$;

CREATE OR REPLACE FUNCTION migrator.lose_legacy(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = of_migration AND finished_at IS NULL AND void_at IS NULL;
    SELECT migrator.mark_unclean(of_migration, why)
$function$;

CREATE OR REPLACE FUNCTION migrator.mark_unclean(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500) WHERE name = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.next_beat(of_migration text, of_incarnation text, had bigint, OUT next bigint, OUT confirmed bigint)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.marks k SET
        confirmed = CASE WHEN had = k.beat THEN had ELSE k.confirmed END,
        confirmed_at = CASE WHEN had = k.beat AND had > k.confirmed THEN clock_timestamp() ELSE k.confirmed_at END,
        beat = k.beat + 1
    WHERE k.migration = of_migration AND k.incarnation = of_incarnation
    RETURNING k.beat, k.confirmed
$function$;

CREATE OR REPLACE FUNCTION migrator.note_fence(of_migration text, of_attempt text, new_mark text, lost boolean)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.fences AS f (migration, attempt, mark, lost_at)
    VALUES (of_migration, of_attempt, new_mark, CASE WHEN lost THEN clock_timestamp() END)
    ON CONFLICT (migration) DO UPDATE SET attempt = of_attempt, mark = new_mark, lost_at = excluded.lost_at
    WHERE lost OR f.attempt <> of_attempt
$function$;

CREATE OR REPLACE FUNCTION migrator.note_parts(of_migration text, new_parts jsonb, new_changes text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.parts AS p (migration, parts) VALUES (of_migration, new_parts)
    ON CONFLICT (migration) DO UPDATE SET parts = new_parts,
        changed = CASE WHEN new_changes IS NULL THEN ''
                       WHEN p.changed = '' THEN left(new_changes, 500)
                       WHEN length(p.changed) + length(new_changes) > 490 THEN left(p.changed, 490) || ' ...'
                       ELSE p.changed || '; ' || new_changes END,
        changed_at = CASE WHEN new_changes IS NOT NULL THEN clock_timestamp() END
$function$;

CREATE OR REPLACE FUNCTION migrator.note_return_rate(of_migration text, keys_per_second double precision)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.returns SET rate = keys_per_second WHERE migration = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.place_mark(of_migration text, new_incarnation text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.marks (migration, incarnation) VALUES (of_migration, new_incarnation)
    ON CONFLICT (migration) DO UPDATE SET incarnation = excluded.incarnation, beat = 0, confirmed = 0, confirmed_at = NULL, lost_at = NULL, lost = '',
        doubted_at = clock_timestamp()
$function$;

CREATE OR REPLACE FUNCTION migrator.raise_beat(of_migration text, of_incarnation text, above bigint)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    WITH raised AS (UPDATE migrator.marks SET beat = above
        WHERE migration = of_migration AND incarnation = of_incarnation AND beat < above RETURNING true)
    SELECT EXISTS (SELECT FROM raised)
$function$;

CREATE OR REPLACE FUNCTION migrator.see_servers(of_migration text, of_side text, was text, is_now text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.servers_seen AS s (migration, side, seen, seen_at) VALUES (of_migration, of_side, is_now, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET seen = excluded.seen, seen_at = excluded.seen_at WHERE s.seen = was
$function$;

CREATE OR REPLACE FUNCTION migrator.suspect_state(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500),
           return_lost = return_lost OR phase IN ('fenced', 'lifting', 'returning', 'retain')
    WHERE name = of_migration
$function$;
-- +goose StatementEnd
