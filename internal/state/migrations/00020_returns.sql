-- +goose Up
-- Every change of a key of the return journal has a number of its own, from one sequence: it is
-- never used again, also where the key leaves the journal and enters it again.
CREATE SEQUENCE migrator.return_changes;
SELECT setval('migrator.return_changes', greatest(1, (SELECT max(changes) FROM migrator.return_journal)));
CREATE INDEX return_journal_changes ON migrator.return_journal (migration, changes);

-- How far a return from retain has come. Entries whose change is up to floor are void: the journal was
-- emptied. Of those up to copied, legacy has a copy, if it is this incarnation of legacy. rate is how many
-- keys a second were last copied. total is how many keys the journal had when returning began, less
-- those that left it since: writes wait then, and should not wait for a count. final: what a person has
-- decided about (lost records, refused rows) is being settled, so the return can't be given up any more.
CREATE TABLE migrator.returns (
    migration text             PRIMARY KEY REFERENCES migrator.migrations (name),
    floor     bigint           NOT NULL DEFAULT 0,
    copied    bigint           NOT NULL DEFAULT 0,
    legacy    text             NOT NULL DEFAULT '' CHECK (length(legacy) <= 200),
    rate      double precision NOT NULL DEFAULT 0 CHECK (rate >= 0),
    total     bigint           NOT NULL DEFAULT 0,
    final     boolean          NOT NULL DEFAULT false
);

-- first_fence_era is the era in which the attempt fenced legacy; fence_era grows when a return is
-- given up. return_sets_aside: the return in progress sets aside what legacy refuses. set_aside
-- counts the records that were.
ALTER TABLE migrator.migrations
    ADD COLUMN first_fence_era   bigint  NOT NULL DEFAULT 0,
    ADD COLUMN return_sets_aside boolean NOT NULL DEFAULT false,
    ADD COLUMN set_aside         bigint  NOT NULL DEFAULT 0 CHECK (set_aside >= 0);
UPDATE migrator.migrations SET first_fence_era = fence_era;

-- Applications of every release number their changes, and need no right on the sequence.
-- +goose StatementBegin
CREATE FUNCTION migrator.number_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.changes := nextval('migrator.return_changes');
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER number_change BEFORE INSERT OR UPDATE OF changes ON migrator.return_journal
    FOR EACH ROW EXECUTE FUNCTION migrator.number_change();

-- newest_change is the number of the newest change that has one.
-- +goose StatementBegin
CREATE FUNCTION migrator.newest_change() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT last_value FROM migrator.return_changes
$$;
-- +goose StatementEnd

-- require_return refuses unless the migration is in the epoch, and in a phase that returns.
-- +goose StatementBegin
CREATE FUNCTION migrator.require_return(of_migration text, at_epoch bigint, VARIADIC phases text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM migrator.migrations WHERE name = of_migration AND epoch = at_epoch AND phase = ANY (phases) FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the migration has moved since epoch %', at_epoch USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;
-- +goose StatementEnd

-- begin_return records the legacy that copies go to. Copies that another one had are void.
-- +goose StatementBegin
CREATE FUNCTION migrator.begin_return(of_migration text, at_epoch bigint, to_legacy text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    INSERT INTO migrator.returns AS r (migration, legacy) VALUES (of_migration, to_legacy)
        ON CONFLICT (migration) DO UPDATE SET legacy = to_legacy,
            copied = CASE WHEN r.legacy = to_legacy THEN r.copied ELSE r.floor END;
END $$;
-- +goose StatementEnd

-- mark_copied marks all changes up to a number as copied, except those of keys that were not: they get a
-- new number, unless they have one.
-- +goose StatementBegin
CREATE FUNCTION migrator.mark_copied(of_migration text, at_epoch bigint, to_legacy text, up_to bigint, not_copied bytea[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    -- In the order in which writers lock them.
    PERFORM FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (not_copied) ORDER BY key FOR UPDATE;
    UPDATE migrator.return_journal SET changes = changes WHERE migration = of_migration AND key = ANY (not_copied) AND changes <= up_to;
    UPDATE migrator.returns SET copied = greatest(copied, up_to) WHERE migration = of_migration AND legacy = to_legacy;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'copies go to another legacy' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;
-- +goose StatementEnd

-- empty_return voids all entries, whatever their number: legacy has a copy of each.
-- +goose StatementBegin
CREATE FUNCTION migrator.empty_return(of_migration text, at_epoch bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    IF EXISTS (SELECT FROM migrator.return_journal j LEFT JOIN migrator.returns r ON r.migration = j.migration
               WHERE j.migration = of_migration AND j.changes > coalesce(greatest(r.floor, r.copied), 0)) THEN
        RAISE EXCEPTION 'legacy lacks keys of the return journal' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE migrator.returns SET floor = last.value, copied = last.value, total = 0
        FROM (SELECT nextval('migrator.return_changes') AS value) AS last WHERE migration = of_migration;
END $$;
-- +goose StatementEnd

-- prune_return deletes up to most void entries, and returns how many these were.
-- +goose StatementBegin
CREATE FUNCTION migrator.prune_return(of_migration text, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE gone bigint;
BEGIN
    DELETE FROM migrator.return_journal j USING (
        SELECT e.key, e.changes FROM migrator.return_journal e
        WHERE e.migration = of_migration AND e.changes <= (SELECT r.floor FROM migrator.returns r WHERE r.migration = of_migration)
        ORDER BY e.changes LIMIT most FOR UPDATE SKIP LOCKED) AS void
        WHERE j.migration = of_migration AND j.key = void.key AND j.changes = void.changes;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
-- +goose StatementEnd

-- note_return_rate records how fast keys are copied.
-- +goose StatementBegin
CREATE FUNCTION migrator.note_return_rate(of_migration text, keys_per_second double precision) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.returns SET rate = keys_per_second WHERE migration = of_migration
$$;
-- +goose StatementEnd

-- hold_return begins a return in which writes wait: with how many keys in the journal, and whether it
-- sets aside what legacy refuses.
-- +goose StatementBegin
CREATE FUNCTION migrator.hold_return(of_migration text, keys bigint, aside boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.migrations SET return_sets_aside = aside WHERE name = of_migration;
    INSERT INTO migrator.returns (migration, total) VALUES (of_migration, keys) ON CONFLICT (migration) DO UPDATE SET total = keys, final = false
$$;
-- +goose StatementEnd

-- allow_set_aside makes the return in progress set aside what legacy refuses.
-- +goose StatementBegin
CREATE FUNCTION migrator.allow_set_aside(of_migration text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE migrator.migrations SET return_sets_aside = true WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'records are set aside only by a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;
-- +goose StatementEnd

-- finalize_return makes the return in progress one that can't be given up.
-- +goose StatementBegin
CREATE FUNCTION migrator.finalize_return(of_migration text, at_epoch bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    UPDATE migrator.returns SET final = true WHERE migration = of_migration;
END $$;
-- +goose StatementEnd

-- leave_aside counts records that a return has set aside.
-- +goose StatementBegin
CREATE FUNCTION migrator.leave_aside(of_migration text, records bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE migrator.migrations SET set_aside = set_aside + records
    WHERE name = of_migration AND phase = 'returning' AND return_sets_aside AND records > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the return in progress sets no record aside' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;
-- +goose StatementEnd

-- leave_return deletes keys that are not copied, in a return in progress.
-- +goose StatementBegin
CREATE FUNCTION migrator.leave_return(of_migration text, keys bytea[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE gone bigint;
BEGIN
    DELETE FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (keys);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE migrator.returns SET total = greatest(total - gone, 0) WHERE migration = of_migration;
END $$;
-- +goose StatementEnd

-- first_fenced records the era in which legacy was fenced.
-- +goose StatementBegin
CREATE FUNCTION migrator.first_fenced(of_migration text, era bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.migrations SET first_fence_era = era WHERE name = of_migration
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.newest_change(), migrator.require_return(text, bigint, text[]), migrator.begin_return(text, bigint, text),
    migrator.mark_copied(text, bigint, text, bigint, bytea[]), migrator.empty_return(text, bigint), migrator.prune_return(text, integer),
    migrator.note_return_rate(text, double precision), migrator.hold_return(text, bigint, boolean), migrator.allow_set_aside(text), migrator.finalize_return(text, bigint),
    migrator.leave_aside(text, bigint), migrator.leave_return(text, bytea[]), migrator.first_fenced(text, bigint) FROM PUBLIC;
