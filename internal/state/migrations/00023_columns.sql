-- +goose Up
-- What instances move, as a hash that each reports when it joins; '' until a migration file is
-- applied that says it. former_* are what instances moved before the columns were changed, and may
-- still move until the backfill of the new ones has begun. fields_epoch is the epoch of that change.
ALTER TABLE migrator.migrations
    ADD COLUMN moves text NOT NULL DEFAULT '' CHECK (length(moves) <= 100),
    ADD COLUMN former_moves text NOT NULL DEFAULT '' CHECK (length(former_moves) <= 100),
    ADD COLUMN former_schema json,
    ADD COLUMN fields_epoch bigint NOT NULL DEFAULT 0 CHECK (fields_epoch >= 0);

-- What the instance moves; NULL: its program is of a release that does not say it.
ALTER TABLE migrator.leases ADD COLUMN moves text CHECK (length(moves) <= 100);

-- check_lease keeps out instances that move something else. It is a trigger, so that every client is
-- checked, whatever statements it sends.
-- +goose StatementBegin
CREATE FUNCTION migrator.check_lease() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m record;
BEGIN
    SELECT moves, former_moves, fields_epoch, epoch, phase INTO m FROM migrator.migrations WHERE name = NEW.migration;
    IF NOT FOUND OR m.moves = '' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        NEW.moves := OLD.moves;
    -- [join-described]: beyond legacy an instance writes the target, or reads it.
    ELSIF m.phase <> 'legacy' AND NEW.moves <> m.moves AND (m.former_moves = '' OR NEW.moves <> m.former_moves) THEN
        RAISE EXCEPTION 'instance % moves other records than % does: it says %, applied is %', NEW.instance, NEW.migration,
            CASE WHEN NEW.moves = '' THEN 'nothing' ELSE left(NEW.moves, 12) END, left(m.moves, 12) USING ERRCODE = 'MG013';
    END IF;
    -- [fields-acknowledged]: of the epoch of a change of columns only. A later epoch is a rollback,
    -- which must not wait for a deployment.
    IF m.epoch = m.fields_epoch AND NEW.moves IS DISTINCT FROM m.moves THEN
        NEW.acknowledged_epoch := least(NEW.acknowledged_epoch, m.epoch - 1);
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER check_lease BEFORE INSERT OR UPDATE OF acknowledged_epoch, moves ON migrator.leases
    FOR EACH ROW EXECUTE FUNCTION migrator.check_lease();

-- How a store's columns differ from those that were applied, as of the last look.
CREATE TABLE migrator.columns_seen (
    migration text        NOT NULL REFERENCES migrator.migrations (name),
    side      text        NOT NULL CHECK (side IN ('legacy', 'target')),
    changes   jsonb       NOT NULL CHECK (jsonb_typeof(changes) = 'array'),
    seen_at   timestamptz NOT NULL,
    PRIMARY KEY (migration, side)
) WITH (fillfactor = 50);

-- see_columns notes the last look. It returns what was noted before; NULL: nothing was.
-- +goose StatementBegin
CREATE FUNCTION migrator.see_columns(of_migration text, of_side text, new_changes jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before jsonb;
BEGIN
    SELECT changes INTO before FROM migrator.columns_seen WHERE migration = of_migration AND side = of_side;
    INSERT INTO migrator.columns_seen (migration, side, changes, seen_at) VALUES (of_migration, of_side, new_changes, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET changes = excluded.changes, seen_at = excluded.seen_at;
    RETURN before;
END $$;
-- +goose StatementEnd

-- change_fields begins an epoch on the same route in which other columns are moved. It follows the
-- UPDATE of the configuration, in the same transaction.
-- +goose StatementBegin
CREATE FUNCTION migrator.change_fields(of_migration text, was_schema json, was_moves text, in_reason text, in_evidence jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.see_columns(text, text, jsonb), migrator.change_fields(text, json, text, text, jsonb) FROM PUBLIC;
