-- +goose Up
-- The one place that writes a change of route. It decides nothing: its callers do.
-- +goose StatementBegin
CREATE FUNCTION migrator.move(
    in_migration text, in_from_epoch bigint, in_phase text, in_percent integer,
    in_cause text, in_reason text, in_evidence jsonb, in_attempt text, in_fence_era bigint
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m migrator.migrations;
    moved_at timestamptz;
BEGIN
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = in_migration FOR UPDATE;
    IF m.epoch <> in_from_epoch THEN
        RAISE EXCEPTION 'migration % is in epoch %, not %', m.name, m.epoch, in_from_epoch
            USING ERRCODE = 'serialization_failure';
    END IF;
    moved_at := clock_timestamp();
    INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at)
        VALUES (m.name, m.epoch + 1, in_phase, in_percent, moved_at);
    INSERT INTO migrator.history (migration, cause, from_phase, from_percent, from_epoch,
            to_phase, to_percent, to_epoch, reason, config_hash, evidence)
        VALUES (m.name, in_cause, m.phase, m.percent, m.epoch,
            in_phase, in_percent, m.epoch + 1, in_reason, m.config_hash, in_evidence);
    UPDATE migrator.migrations SET
        phase = in_phase, percent = in_percent, epoch = m.epoch + 1, route_since = moved_at,
        phase_since = CASE WHEN in_phase = m.phase THEN m.phase_since ELSE moved_at END,
        attempt = in_attempt,
        fence_era = CASE WHEN in_fence_era > 0 THEN in_fence_era ELSE m.fence_era END
        WHERE name = m.name;
    PERFORM pg_notify('migrator', json_build_object('migration', m.name, 'epoch', m.epoch + 1)::text);
    RETURN m.epoch + 1;
END $$;
-- +goose StatementEnd

-- Rolls reads back to legacy: the only move that an application may make. It runs
-- with its owner's rights, so that applications need none on the tables it writes.
-- +goose StatementBegin
CREATE FUNCTION migrator.rescue(in_migration text, in_from_epoch bigint, in_reason text, in_evidence jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m migrator.migrations;
BEGIN
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = in_migration FOR UPDATE;
    IF m.phase NOT IN ('cutover', 'grace') OR m.attempt <> '' THEN
        RAISE EXCEPTION 'migration % is at %: reads are not taken back from there', m.name, m.phase
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN migrator.move(in_migration, in_from_epoch, 'dual-read', 10000, 'failure', in_reason, in_evidence, '', 0);
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION migrator.move(text, bigint, text, integer, text, text, jsonb, text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION migrator.rescue(text, bigint, text, jsonb) FROM PUBLIC;
