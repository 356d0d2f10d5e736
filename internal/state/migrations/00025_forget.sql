-- +goose Up
-- A migration that is forgotten leaves what people decided: the history, approvals and runs of
-- runbooks, which nobody may delete. They don't keep its row.
ALTER TABLE migrator.history DROP CONSTRAINT history_migration_fkey;
ALTER TABLE migrator.approvals DROP CONSTRAINT approvals_migration_fkey;
ALTER TABLE migrator.runbook_runs DROP CONSTRAINT runbook_runs_migration_fkey;

-- A new cause: the migration was forgotten. What earlier releases allow stays allowed.
-- +goose StatementBegin
DO $$
DECLARE
    causes text := (SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = 'migrator.history'::regclass AND conname = 'history_cause_check');
BEGIN
    ALTER TABLE migrator.history DROP CONSTRAINT history_cause_check;
    EXECUTE 'ALTER TABLE migrator.history ADD CONSTRAINT history_cause_check CHECK (' || replace(causes, '''created''::text', '''created''::text, ''forgotten''::text') || ')';
END $$;
-- +goose StatementEnd

-- Migrations that were forgotten. last_seq and last_hash are of the history's last entry then: it is
-- verified although there is no migration. era is legacy's, above which a later migration of the same
-- records begins.
CREATE TABLE migrator.forgotten (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration    text        NOT NULL,
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    era          bigint      NOT NULL CHECK (era BETWEEN 0 AND 4294967295),
    last_epoch   bigint      NOT NULL,
    last_seq     bigint      NOT NULL,
    last_hash    bytea       NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON migrator.forgotten
    FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

-- While a migration is being forgotten, no instance joins it.
ALTER TABLE migrator.migrations ADD COLUMN forgetting_at timestamptz,
    ADD COLUMN forgetting_era bigint NOT NULL DEFAULT 0 CHECK (forgetting_era BETWEEN 0 AND 4294967295);
-- +goose StatementBegin
CREATE FUNCTION migrator.refuse_join() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM migrator.migrations WHERE name = NEW.migration AND forgetting_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the migration % is being forgotten: no instance joins it', NEW.migration USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER refuse_join BEFORE INSERT ON migrator.leases FOR EACH ROW EXECUTE FUNCTION migrator.refuse_join();
REVOKE ALL ON FUNCTION migrator.refuse_join() FROM PUBLIC;
