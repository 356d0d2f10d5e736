-- +goose Up
-- A week of all evaluations was 220 MB for each migration: thirteen gates and triggers, evaluated each minute and
-- each ten seconds. Six hours are as far back as a trigger looks.

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.prune(of_migration text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- An evaluation that the history names is never deleted: a step or a rollback rests on it.
    WITH named AS (
            SELECT (jsonb_path_query(evidence, '$.evaluations[*].id') #>> '{}')::bigint AS id FROM migrator.history WHERE migration = of_migration
            UNION SELECT (evidence #>> '{fired,evaluation}')::bigint FROM migrator.history WHERE migration = of_migration AND cause = 'trigger'),
        all_of AS (
            SELECT id, at,
                   row_number() OVER (PARTITION BY kind, name, date_bin('20 minutes', at, '2020-01-01Z') ORDER BY at DESC, id DESC) = 1 AS newest,
                   row_number() OVER (PARTITION BY kind, name, date_trunc('hour', at, 'UTC') ORDER BY at DESC, id DESC) = 1 AS newest_of_hour,
                   -- A trigger that needs many evaluations in succession counts up to a hundred.
                   row_number() OVER (PARTITION BY kind, name ORDER BY at DESC, id DESC) <= 100 AS last,
                   verdict IS DISTINCT FROM lag(verdict) OVER (PARTITION BY kind, name ORDER BY at, id) AS turned,
                   -- By it an alert that is repeated is known again.
                   inputs #>> '{answer,source,key}' IS NOT NULL AS alert
            FROM migrator.evaluations WHERE migration = of_migration),
        void AS (
            SELECT id FROM all_of
            WHERE at < clock_timestamp() - interval '90 days'
               OR at < clock_timestamp() - interval '7 days' AND NOT newest_of_hour AND NOT turned
               OR at < clock_timestamp() - interval '6 hours' AND NOT newest AND NOT turned AND NOT last AND NOT alert)
        DELETE FROM migrator.evaluations e USING void
        WHERE e.id = void.id AND NOT EXISTS (SELECT FROM named WHERE named.id = e.id);
    DELETE FROM migrator.outbox WHERE migration = of_migration AND (delivered_at < clock_timestamp() - interval '30 days'
        OR delivered_at IS NULL AND at < clock_timestamp() - interval '7 days');
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- keep_evaluation: only prune, which has the owner's rights, deletes what is younger than a week.
CREATE OR REPLACE FUNCTION migrator.keep_evaluation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.at > clock_timestamp() - interval '6 hours' THEN
        RAISE EXCEPTION 'evaluation % is younger than six hours: DELETE is refused', OLD.id USING ERRCODE = 'insufficient_privilege';
    ELSIF OLD.at > clock_timestamp() - interval '7 days'
      AND current_user <> (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'migrator') THEN
        RAISE EXCEPTION 'evaluation % is younger than a week: DELETE is refused', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;
-- +goose StatementEnd
