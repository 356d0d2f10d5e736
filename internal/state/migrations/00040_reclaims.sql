-- +goose Up
-- A reclaim passes no phase that needs two people, a check is not passed by a NULL, and live routes are read once.

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
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> session_user) THEN
            RAISE EXCEPTION 'a reclaim past % needs two people: only % has approved grace in this epoch; try: migrator phase approve --to grace, as another person',
                array_to_string(passed, ', '), session_user USING ERRCODE = 'MG011';
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
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND (NOT two OR a.actor <> session_user)) THEN
        RETURN NEW;
    ELSIF two THEN
        RAISE EXCEPTION '% needs two people: only % has approved it in this epoch, under this configuration; try: migrator phase approve, as another person',
            into_phase, session_user USING ERRCODE = 'MG011';
    END IF;
    RAISE EXCEPTION '% needs an approval in this epoch, under this configuration; try: migrator phase approve', into_phase USING ERRCODE = 'MG010';
END $$;

CREATE OR REPLACE FUNCTION migrator.transition(of_name text, from_epoch bigint, new_phase text, new_percent integer, of_cause text, why text, of_evidence jsonb,
    of_attempt text, of_fence_era bigint, of_first_fence_era bigint, return_keys bigint, accept_missing bigint, sets_aside boolean, reclaim boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m      migrator.migrations;
    number bigint;
BEGIN
    PERFORM migrator.require('operator', of_name);
    -- A comparison with NULL is neither true nor false: a check below would let it pass.
    IF num_nulls(of_name, from_epoch, new_phase, new_percent, of_cause, why, of_evidence, of_attempt, of_fence_era, of_first_fence_era, return_keys,
                 accept_missing, sets_aside, reclaim) > 0 THEN
        RAISE EXCEPTION 'a step has no part that is NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
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

CREATE OR REPLACE FUNCTION migrator.inject_fault(of_migration text, new_fault jsonb, milliseconds bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF num_nulls(new_fault, milliseconds) > 0 OR milliseconds NOT BETWEEN 1 AND 3600000 OR jsonb_typeof(new_fault) <> 'object' OR coalesce(length(new_fault ->> 'id'), 0) NOT BETWEEN 1 AND 256 THEN
        RAISE EXCEPTION 'a fault has an id, and ends by itself within an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE migrator.migrations SET fault = new_fault, fault_until = clock_timestamp() + milliseconds * interval '1 millisecond'
    WHERE name = of_migration AND environment = 'staging' AND (fault IS NULL OR fault_until <= clock_timestamp());
    RETURN FOUND;
END $$;

-- route is the present route and those that instances may be on. Their phases and shares come from one reading: a lease
-- that ends between two would leave more of the first than of the second.
CREATE OR REPLACE FUNCTION migrator.route(of_migration text)
RETURNS TABLE (phase text, percent integer, epoch bigint, live_phases text[], live_percents integer[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, r.phases, r.percents FROM migrator.migrations m,
        (SELECT coalesce(array_agg(l.phase), '{}') AS phases, coalesce(array_agg(l.percent), '{}') AS percents FROM migrator.live_routes(of_migration) l) AS r
        WHERE m.name = of_migration;
END $$;
-- +goose StatementEnd
