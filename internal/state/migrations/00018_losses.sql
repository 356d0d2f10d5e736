-- +goose Up
-- unclean_at is when a store was last found to have lost data: a full reconcile that began later
-- must be clean. return_accepted is how many records the return in progress may leave as legacy
-- has them, because the target has lost them.
ALTER TABLE migrator.migrations
    ADD COLUMN unclean_at      timestamptz,
    ADD COLUMN unclean_why     text NOT NULL DEFAULT '' CHECK (length(unclean_why) <= 500),
    ADD COLUMN return_accepted bigint NOT NULL DEFAULT 0 CHECK (return_accepted >= 0);

-- A new cause: a store has lost data.
ALTER TABLE migrator.history DROP CONSTRAINT history_cause_check;
ALTER TABLE migrator.history ADD CONSTRAINT history_cause_check CHECK (cause IN (
    'created', 'advance', 'rollback', 'fence', 'failure', 'config', 'evict', 'pause', 'resume', 'approve',
    'trigger', 'acknowledge', 'schedule', 'loss'));

-- mark_unclean, accept_missing and leave_missing run as the schema's owner: their callers need no
-- right to change the row otherwise.
-- +goose StatementBegin
CREATE FUNCTION migrator.mark_unclean(of_migration text, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500) WHERE name = of_migration
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION migrator.accept_missing(of_migration text, records bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE migrator.migrations SET return_accepted = records WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lost records are accepted only for a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;
-- +goose StatementEnd
-- leave_missing takes records off the accepted number, and marks the migration unclean.
-- +goose StatementBegin
CREATE FUNCTION migrator.leave_missing(of_migration text, records bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE migrator.migrations SET return_accepted = return_accepted - records
    WHERE name = of_migration AND phase = 'returning' AND return_accepted >= records AND records > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the target has lost more records than were accepted' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.mark_unclean(of_migration, 'the target lost records, and legacy has older states of them');
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.mark_unclean(text, text), migrator.accept_missing(text, bigint), migrator.leave_missing(text, bigint) FROM PUBLIC;
