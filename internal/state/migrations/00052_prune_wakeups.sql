-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.prune(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
    -- Without webhooks no process takes the wake-ups; with them, messages of which one was lost are found in half a minute.
    DELETE FROM migrator_river.river_job WHERE kind = 'webhooks' AND state = 'available' AND scheduled_at < clock_timestamp() - interval '1 hour'
        AND queue = 'webhooks_' || left(encode(sha256(convert_to(of_migration, 'UTF8')), 'hex'), 16);
END $function$;
-- +goose StatementEnd
