-- +goose Up
-- Evidence is computed by an operator's process, which can state what is not so, under its own name. So the
-- database gives the name and the times, and what is finished stays as it is. Roles have table privileges here,
-- for rows of the migrations that they have a grant for.

-- +goose StatementBegin
-- owns reports whether the session's user is the schema's owner, who can do everything.
CREATE FUNCTION migrator.owns() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER')
$$;

-- granted lists the migrations that the session's user has a grant of one of the kinds for; {*}: all.
CREATE FUNCTION migrator.granted(VARIADIC kinds text[]) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN migrator.owns() OR '*' = ANY (array_agg(g.migration)) THEN '{*}' ELSE coalesce(array_agg(g.migration), '{}') END
    FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE g.kind = ANY (kinds) AND pg_has_role(session_user, r.oid, 'MEMBER')
$$;

CREATE FUNCTION migrator.sign_evaluation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.actor := session_user;
    IF NOT migrator.owns() THEN
        NEW.at := clock_timestamp();
        IF NEW.epoch > (SELECT epoch FROM migrator.migrations WHERE name = NEW.migration) OR length(NEW.name) > 200 OR length(NEW.detail) > 10000 THEN
            RAISE EXCEPTION 'an evaluation that can''t be' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION migrator.sign_drill() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF migrator.owns() THEN
            RETURN NEW;
        ELSIF OLD.finished_at IS NOT NULL THEN
            RAISE EXCEPTION 'drill % is finished', OLD.id USING ERRCODE = 'insufficient_privilege';
        END IF;
        NEW.finished_at := CASE WHEN NEW.finished_at IS NOT NULL THEN clock_timestamp() END;
        RETURN NEW;
    END IF;
    NEW.actor := session_user;
    IF migrator.owns() THEN
        RETURN NEW;
    END IF;
    IF NEW.digest IS NOT NULL THEN
        NEW.imported_at := clock_timestamp();
        IF NEW.finished_at > clock_timestamp() OR NEW.began_at > NEW.finished_at THEN
            RAISE EXCEPTION 'a drill with times that can''t be' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    ELSE
        NEW.began_at := clock_timestamp();
        NEW.finished_at := NULL;
        NEW.passed := false;
        SELECT environment, config_hash INTO NEW.environment, NEW.config_hash FROM migrator.migrations WHERE name = NEW.migration;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION migrator.sign_verification() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.actor := session_user;
    IF NOT migrator.owns() THEN
        NEW.at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION migrator.sign_backfill() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF migrator.owns() THEN
        NEW.actor := CASE TG_OP WHEN 'INSERT' THEN session_user ELSE NEW.actor END;
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := session_user;
        NEW.began_at := clock_timestamp();
        NEW.finished_at := NULL;
        NEW.void_at := NULL;
        SELECT epoch INTO NEW.epoch FROM migrator.migrations WHERE name = NEW.migration;
    ELSIF NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL THEN
        NEW.finished_at := clock_timestamp();
    ELSIF NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
        RAISE EXCEPTION 'backfill % is finished', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION migrator.sign_run() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF migrator.owns() THEN
        NEW.actor := CASE TG_OP WHEN 'INSERT' THEN session_user ELSE NEW.actor END;
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := session_user;
        NEW.began_at := clock_timestamp();
        NEW.finished_at := NULL;
        NEW.status := 'running';
        SELECT epoch, config_hash INTO NEW.epoch, NEW.config_hash FROM migrator.migrations WHERE name = NEW.migration;
        RETURN NEW;
    END IF;
    IF OLD.status IN ('done', 'cancelled') AND NEW IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'run % is %', OLD.id, OLD.status USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.finished_at IS NOT NULL AND NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
        NEW.finished_at := clock_timestamp();
    END IF;
    IF NEW.said_by NOT IN ('', OLD.said_by) THEN
        NEW.said_by := session_user;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION migrator.sign_delivery() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT migrator.owns() THEN
        NEW.attempts := greatest(NEW.attempts, OLD.attempts);
        NEW.next_at := least(NEW.next_at, clock_timestamp() + interval '1 day');
        NEW.delivered_at := CASE WHEN NEW.delivered_at IS NOT NULL THEN clock_timestamp() END;
        NEW.failure := left(NEW.failure, 10000);
    END IF;
    RETURN NEW;
END $$;

-- prune deletes evaluations and notifications that are old: see state.Store.Prune.
CREATE FUNCTION migrator.prune(of_migration text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- An evaluation that the history names is never deleted: a step or a rollback rests on it.
    WITH named AS (
            SELECT (jsonb_path_query(evidence, '$.evaluations[*].id') #>> '{}')::bigint AS id FROM migrator.history WHERE migration = of_migration
            UNION SELECT (evidence #>> '{fired,evaluation}')::bigint FROM migrator.history WHERE migration = of_migration AND cause = 'trigger'),
        old AS (
            SELECT id, at < clock_timestamp() - interval '90 days' AS over,
                   row_number() OVER (PARTITION BY kind, name, date_trunc('hour', at, 'UTC') ORDER BY at DESC, id DESC) = 1 AS newest,
                   verdict IS DISTINCT FROM lag(verdict) OVER (PARTITION BY kind, name ORDER BY at, id) AS turned
            FROM migrator.evaluations WHERE migration = of_migration AND at < clock_timestamp() - interval '7 days')
        DELETE FROM migrator.evaluations e USING old
        WHERE e.id = old.id AND (old.over OR NOT old.newest AND NOT old.turned)
          AND NOT EXISTS (SELECT FROM named WHERE named.id = e.id);
    DELETE FROM migrator.outbox WHERE migration = of_migration AND (delivered_at < clock_timestamp() - interval '30 days'
        OR delivered_at IS NULL AND at < clock_timestamp() - interval '7 days');
END $$;

-- prune_findings deletes findings of runs that ended longer than keep ago: see reconciles.Runs.Prune.
CREATE FUNCTION migrator.prune_findings(of_migration text, keep interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    DELETE FROM migrator.reconcile_findings f USING migrator.reconcile_runs r
        WHERE r.id = f.run AND r.migration = of_migration AND r.finished_at < clock_timestamp() - greatest(keep, CASE WHEN migrator.owns() THEN keep ELSE interval '1 day' END)
          AND (r.status IN ('done', 'cancelled')
            OR r.status = 'stopped' AND NOT EXISTS (SELECT FROM migrator.reconcile_jobs j WHERE j.run = r.id))
          AND r.id <> ALL (ARRAY(SELECT max(id) FROM migrator.reconcile_runs
            WHERE migration = of_migration AND status = 'done' GROUP BY GROUPING SETS ((whole, two_way), (differences > 0))));
END $$;
-- +goose StatementEnd

-- They ask for membership, by functions that no role may call.
ALTER FUNCTION migrator.sign_runbook_run() SECURITY DEFINER;
ALTER FUNCTION migrator.sign_runbook_step() SECURITY DEFINER;
ALTER TABLE migrator.backfills ADD COLUMN actor text NOT NULL DEFAULT '';
ALTER TABLE migrator.reconcile_runs ADD COLUMN actor text NOT NULL DEFAULT '';
CREATE TRIGGER sign BEFORE INSERT ON migrator.evaluations FOR EACH ROW EXECUTE FUNCTION migrator.sign_evaluation();
CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON migrator.drills FOR EACH ROW EXECUTE FUNCTION migrator.sign_drill();
CREATE TRIGGER sign BEFORE INSERT ON migrator.runbook_verifications FOR EACH ROW EXECUTE FUNCTION migrator.sign_verification();
CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON migrator.backfills FOR EACH ROW EXECUTE FUNCTION migrator.sign_backfill();
CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON migrator.reconcile_runs FOR EACH ROW EXECUTE FUNCTION migrator.sign_run();
CREATE TRIGGER sign BEFORE UPDATE ON migrator.outbox FOR EACH ROW EXECUTE FUNCTION migrator.sign_delivery();

-- Row-level security: what a query asks of the grants it asks once, in a sub-select of its own. The owner is
-- not bound by it, nor are the functions of this schema.
-- +goose StatementBegin
DO $$
DECLARE
    t text;
    read    constant text := $p$'*' = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider'))::text[]) OR %1$s = ANY ((SELECT migrator.granted('viewer', 'operator', 'decider'))::text[])$p$;
    operate constant text := $p$('*' = ANY ((SELECT migrator.granted('operator'))::text[]) OR %1$s = ANY ((SELECT migrator.granted('operator'))::text[]))$p$;
    of_run  constant text := 'run IN (SELECT r.id FROM migrator.reconcile_runs r WHERE ' || replace(operate, '%1$s', 'r.migration') || ' AND r.status NOT IN (''done'', ''cancelled''))';
BEGIN
    FOREACH t IN ARRAY ARRAY['approvals', 'backfills', 'bypass', 'columns_seen', 'configurations', 'drills', 'evaluations', 'fences', 'forgotten', 'history',
            'outbox', 'parts', 'reconcile_runs', 'reconcile_schedule', 'returns', 'runbook_runs', 'runbook_verifications', 'servers_seen', 'unreadable'] LOOP
        EXECUTE format('ALTER TABLE migrator.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY read ON migrator.%I FOR SELECT USING (%s)', t, format(read, 'migration'));
    END LOOP;
    FOREACH t IN ARRAY ARRAY['backfills', 'drills', 'evaluations', 'outbox', 'reconcile_runs', 'reconcile_schedule', 'runbook_runs', 'runbook_verifications'] LOOP
        EXECUTE format('CREATE POLICY add ON migrator.%I FOR INSERT WITH CHECK (%s)', t, format(operate, 'migration'));
    END LOOP;
    FOREACH t IN ARRAY ARRAY['reconcile_runs', 'reconcile_schedule', 'runbook_runs'] LOOP
        EXECUTE format('CREATE POLICY change ON migrator.%I FOR UPDATE USING (%s)', t, format(operate, 'migration'));
    END LOOP;
    EXECUTE format('CREATE POLICY change ON migrator.backfills FOR UPDATE USING (%s AND void_at IS NULL)', format(operate, 'migration'));
    EXECUTE format('CREATE POLICY change ON migrator.drills FOR UPDATE USING (%s)', format(operate, 'migration'));
    EXECUTE format('CREATE POLICY change ON migrator.outbox FOR UPDATE USING (%1$s AND delivered_at IS NULL) WITH CHECK (%1$s)', format(operate, 'migration'));
    FOREACH t IN ARRAY ARRAY['reconcile_coverage', 'reconcile_findings', 'reconcile_jobs'] LOOP
        EXECUTE format('ALTER TABLE migrator.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY read ON migrator.%I FOR SELECT USING (run IN (SELECT id FROM migrator.reconcile_runs))', t);
        EXECUTE format('CREATE POLICY add ON migrator.%I FOR INSERT WITH CHECK (run IN (SELECT r.id FROM migrator.reconcile_runs r WHERE %s))', t, format(operate, 'r.migration'));
    END LOOP;
    EXECUTE format('CREATE POLICY remove ON migrator.reconcile_findings FOR DELETE USING (%s)', of_run);
    EXECUTE format('CREATE POLICY remove ON migrator.reconcile_coverage FOR DELETE USING (run IN (SELECT r.id FROM migrator.reconcile_runs r WHERE %s))', format(operate, 'r.migration'));
    EXECUTE format('CREATE POLICY remove ON migrator.reconcile_jobs FOR DELETE USING (run IN (SELECT r.id FROM migrator.reconcile_runs r WHERE %s))', format(operate, 'r.migration'));
    EXECUTE format('CREATE POLICY change ON migrator.reconcile_jobs FOR UPDATE USING (run IN (SELECT r.id FROM migrator.reconcile_runs r WHERE %s))', format(operate, 'r.migration'));
    ALTER TABLE migrator.runbook_steps ENABLE ROW LEVEL SECURITY;
    CREATE POLICY read ON migrator.runbook_steps FOR SELECT USING (run IN (SELECT id FROM migrator.runbook_runs));
    EXECUTE format('CREATE POLICY add ON migrator.runbook_steps FOR INSERT WITH CHECK (run IN (SELECT r.id FROM migrator.runbook_runs r WHERE %s))', format(operate, 'r.migration'));
    EXECUTE format('CREATE POLICY change ON migrator.runbook_steps FOR UPDATE USING (run IN (SELECT r.id FROM migrator.runbook_runs r WHERE %s))', format(operate, 'r.migration'));
    -- A decider answers the question that a runbook asks, and no other.
    CREATE POLICY decide ON migrator.runbook_steps FOR UPDATE USING (kind = 'approve' AND run IN (SELECT r.id FROM migrator.runbook_runs r
        WHERE '*' = ANY ((SELECT migrator.granted('decider'))::text[]) OR r.migration = ANY ((SELECT migrator.granted('decider'))::text[])));
END $$;
-- +goose StatementEnd
