-- +goose Up
-- The id of this state database, which names the owner of what migrations write.
CREATE TABLE migrator.identity (
    id     uuid    NOT NULL DEFAULT gen_random_uuid(),
    single boolean PRIMARY KEY DEFAULT true CHECK (single)
);
INSERT INTO migrator.identity DEFAULT VALUES;

-- The mark that a migration's target must have. beat is the last number that was given out,
-- confirmed the last one that every part of the target had.
CREATE TABLE migrator.marks (
    migration    text        PRIMARY KEY REFERENCES migrator.migrations (name),
    incarnation  text        NOT NULL CHECK (length(incarnation) BETWEEN 1 AND 100),
    beat         bigint      NOT NULL DEFAULT 0,
    confirmed    bigint      NOT NULL DEFAULT 0 CHECK (confirmed BETWEEN 0 AND beat),
    confirmed_at timestamptz,
    lost_at      timestamptz, -- when the target was found without the mark; until it is found with it, or claimed
    lost         text        NOT NULL DEFAULT '' CHECK (length(lost) <= 500),
    doubted_at   timestamptz, -- when the target was last found to have lost data, perhaps
    CHECK ((lost_at IS NULL) = (lost = ''))
) WITH (fillfactor = 50); -- one update a second

-- mark_of returns what an instance compares the target's marks with.
-- +goose StatementBegin
CREATE FUNCTION migrator.mark_of(of_migration text, OUT owner text, OUT incarnation text, OUT confirmed bigint, OUT lost text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.migration || '@' || i.id, k.incarnation, k.confirmed, k.lost
    FROM migrator.marks k, migrator.identity i WHERE k.migration = of_migration
$$;
-- +goose StatementEnd

-- place_mark begins a claim.
-- +goose StatementBegin
CREATE FUNCTION migrator.place_mark(of_migration text, new_incarnation text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO migrator.marks (migration, incarnation) VALUES (of_migration, new_incarnation)
    ON CONFLICT (migration) DO UPDATE SET incarnation = excluded.incarnation, beat = 0, confirmed = 0, confirmed_at = NULL, lost_at = NULL, lost = '',
        doubted_at = clock_timestamp()
$$;
-- +goose StatementEnd

-- next_beat gives out the next number, and notes that every part of the target had the last one. An
-- earlier one is not confirmed: a slow leader that has a later number compares with an earlier
-- confirmed one, and could raise a mark that has gone back.
-- +goose StatementBegin
CREATE FUNCTION migrator.next_beat(of_migration text, of_incarnation text, had bigint, OUT next bigint, OUT confirmed bigint) RETURNS SETOF record
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.marks k SET
        confirmed = CASE WHEN had = k.beat THEN had ELSE k.confirmed END,
        confirmed_at = CASE WHEN had = k.beat AND had > k.confirmed THEN clock_timestamp() ELSE k.confirmed_at END,
        beat = k.beat + 1
    WHERE k.migration = of_migration AND k.incarnation = of_incarnation
    RETURNING k.beat, k.confirmed
$$;
-- +goose StatementEnd

-- raise_beat makes the next number greater than one that the target has; false: it is already.
-- +goose StatementBegin
CREATE FUNCTION migrator.raise_beat(of_migration text, of_incarnation text, above bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH raised AS (UPDATE migrator.marks SET beat = above
        WHERE migration = of_migration AND incarnation = of_incarnation AND beat < above RETURNING true)
    SELECT EXISTS (SELECT FROM raised)
$$;
-- +goose StatementEnd

-- lose_target notes that the target lacks the mark, and marks the migration unclean; false: it was
-- known. find_target notes that it has the mark again.
-- +goose StatementBegin
CREATE FUNCTION migrator.lose_target(of_migration text, of_incarnation text, why text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE migrator.marks SET lost_at = clock_timestamp(), lost = left(why, 500), doubted_at = clock_timestamp()
    WHERE migration = of_migration AND incarnation = of_incarnation AND lost_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM migrator.mark_unclean(of_migration, why);
    RETURN true;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION migrator.find_target(of_migration text, of_incarnation text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH found AS (UPDATE migrator.marks SET lost_at = NULL, lost = ''
        WHERE migration = of_migration AND incarnation = of_incarnation AND lost_at IS NOT NULL RETURNING true)
    SELECT EXISTS (SELECT FROM found)
$$;
-- +goose StatementEnd

-- What a store's servers were when they were last looked at, in the store's own words.
CREATE TABLE migrator.servers_seen (
    migration text        NOT NULL REFERENCES migrator.migrations (name),
    side      text        NOT NULL CHECK (side IN ('legacy', 'target')),
    seen      text        NOT NULL CHECK (length(seen) <= 100000),
    seen_at   timestamptz NOT NULL,
    PRIMARY KEY (migration, side)
) WITH (fillfactor = 50);

-- A backfill whose barrier may be above the present of a legacy that went back is not resumed.
ALTER TABLE migrator.backfills ADD COLUMN void_at timestamptz;

-- see_servers notes what a store's servers are, if they are still noted as they were.
-- +goose StatementBegin
CREATE FUNCTION migrator.see_servers(of_migration text, of_side text, was text, is_now text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO migrator.servers_seen AS s (migration, side, seen, seen_at) VALUES (of_migration, of_side, is_now, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET seen = excluded.seen, seen_at = excluded.seen_at WHERE s.seen = was
$$;
-- +goose StatementEnd

-- lose_legacy marks a migration unclean whose legacy may have lost transactions, and ends its
-- unfinished backfill.
-- +goose StatementBegin
CREATE FUNCTION migrator.lose_legacy(of_migration text, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = of_migration AND finished_at IS NULL AND void_at IS NULL;
    SELECT migrator.mark_unclean(of_migration, why)
$$;
-- +goose StatementEnd

-- doubt_target marks a migration unclean whose target may have lost data, though it has the mark.
-- +goose StatementBegin
CREATE FUNCTION migrator.doubt_target(of_migration text, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE migrator.marks SET doubted_at = clock_timestamp() WHERE migration = of_migration;
    SELECT migrator.mark_unclean(of_migration, why)
$$;
-- +goose StatementEnd

-- refuse_lost_target fails while the target is known to lack the mark.
-- +goose StatementBegin
CREATE FUNCTION migrator.refuse_lost_target(of_migration text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE why text;
BEGIN
    SELECT k.lost INTO why FROM migrator.marks k WHERE k.migration = of_migration AND k.lost_at IS NOT NULL;
    IF FOUND THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'MG012';
    END IF;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION migrator.place_mark(text, text), migrator.next_beat(text, text, bigint), migrator.raise_beat(text, text, bigint),
    migrator.lose_target(text, text, text), migrator.find_target(text, text),
    migrator.see_servers(text, text, text, text), migrator.lose_legacy(text, text),
    migrator.doubt_target(text, text) FROM PUBLIC;
