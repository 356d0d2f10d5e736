-- +goose Up
-- State loss: an epoch above the migration's present one is one that an instance has
-- been on and this database lacks. It was restored from an older backup, or failed over
-- to a standby without its last transactions. Such rows are live routes like all others.
ALTER TABLE migrator.epochs
    ADD COLUMN witnessed_at timestamptz,              -- when an instance first reported it
    ADD COLUMN witness      text NOT NULL DEFAULT ''; -- which one
ALTER TABLE migrator.migrations
    ADD COLUMN reclaimed_at timestamptz,                   -- when the migration was last reclaimed after a state loss
    ADD COLUMN return_lost  boolean NOT NULL DEFAULT false; -- the return journal may lack keys: the target is scanned for them

-- The first lease of the process that has this one, so that leases whose reply never
-- arrived are known to be its own.
ALTER TABLE migrator.leases ADD COLUMN origin text;
UPDATE migrator.leases SET origin = id;

-- Records an epoch that this database lacks; does nothing if it has the epoch or a later
-- one. It runs with its owner's rights: applications can write epochs in no other way.
-- +goose StatementBegin
CREATE FUNCTION migrator.witness(in_migration text, in_epoch bigint, in_phase text, in_percent integer, in_instance text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present bigint;
BEGIN
    SELECT epoch INTO STRICT present FROM migrator.migrations WHERE name = in_migration FOR SHARE;
    IF in_epoch > present + 1000000 THEN -- a mistaken or hostile one must not use the numbers up
        RAISE EXCEPTION 'migration % is in epoch %: epoch % can not be', in_migration, present, in_epoch
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF in_epoch > present THEN
        INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at, witnessed_at, witness)
            VALUES (in_migration, in_epoch, in_phase, in_percent, clock_timestamp(), clock_timestamp(), in_instance)
            ON CONFLICT DO NOTHING;
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.witness(text, bigint, text, integer, text) FROM PUBLIC;

-- As before, except that the new epoch is above every reported one.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.move(
    in_migration text, in_from_epoch bigint, in_phase text, in_percent integer,
    in_cause text, in_reason text, in_evidence jsonb, in_attempt text, in_fence_era bigint
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m migrator.migrations;
    moved_at timestamptz;
    number bigint;
BEGIN
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = in_migration FOR UPDATE;
    IF m.epoch <> in_from_epoch THEN
        RAISE EXCEPTION 'migration % is in epoch %, not %', m.name, m.epoch, in_from_epoch
            USING ERRCODE = 'serialization_failure';
    END IF;
    SELECT max(epoch) + 1 INTO STRICT number FROM migrator.epochs WHERE migration = m.name;
    moved_at := clock_timestamp();
    INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at)
        VALUES (m.name, number, in_phase, in_percent, moved_at);
    INSERT INTO migrator.history (migration, cause, from_phase, from_percent, from_epoch,
            to_phase, to_percent, to_epoch, reason, config_hash, evidence)
        VALUES (m.name, in_cause, m.phase, m.percent, m.epoch,
            in_phase, in_percent, number, in_reason, m.config_hash, in_evidence);
    UPDATE migrator.migrations SET
        phase = in_phase, percent = in_percent, epoch = number, route_since = moved_at,
        phase_since = CASE WHEN in_phase = m.phase THEN m.phase_since ELSE moved_at END,
        attempt = in_attempt,
        fence_era = CASE WHEN in_fence_era > 0 THEN in_fence_era ELSE m.fence_era END
        WHERE name = m.name;
    PERFORM pg_notify('migrator', json_build_object('migration', m.name, 'epoch', number)::text);
    RETURN number;
END $$;
-- +goose StatementEnd
