-- +goose Up
-- Telemetry as instances report it. Applications may only insert.
-- There is no reference to migrations: its check would lock a row that
-- transitions need.
CREATE TABLE migrator.windows (
    migration   text        NOT NULL,
    incarnation text        NOT NULL CHECK (incarnation <> ''),
    sequence    bigint      NOT NULL,
    instance    text        NOT NULL,
    epoch       bigint      NOT NULL,
    config_hash text        NOT NULL,
    began_at    timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    discarded   bigint      NOT NULL, -- windows before this one that the instance discarded
    counts      bytea       NOT NULL CHECK (octet_length(counts) <= 1100000), -- statedb/counts.go
    PRIMARY KEY (migration, incarnation, sequence),
    CHECK (began_at <= ended_at)
);
CREATE INDEX ON migrator.windows (migration, ended_at);

-- Windows added up over all instances, by the end of the window: 10 seconds wide, and
-- 300 where they are older than an hour.
CREATE TABLE migrator.buckets (
    migration   text        NOT NULL,
    began_at    timestamptz NOT NULL,
    seconds     integer     NOT NULL CHECK (seconds IN (10, 300)),
    epoch       bigint      NOT NULL,
    config_hash text        NOT NULL,
    instances   bytea       NOT NULL, -- 4 bytes of a hash of each name, sorted
    counts      bytea       NOT NULL,
    PRIMARY KEY (migration, began_at, seconds, epoch, config_hash)
);

-- Which windows are in buckets: one that is reported again counts once.
CREATE TABLE migrator.incarnations (
    migration   text           NOT NULL,
    incarnation text           NOT NULL,
    instance    text           NOT NULL,
    counted     int8multirange NOT NULL, -- sequences
    discarded   bigint         NOT NULL, -- windows that never came
    last_at     timestamptz    NOT NULL,
    PRIMARY KEY (migration, incarnation)
);

-- Every evaluation of a gate or trigger. Rows never change; Store.Prune deletes most of
-- those older than a week.
CREATE TABLE migrator.evaluations (
    id          bigint           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    migration   text             NOT NULL,
    kind        text             NOT NULL CHECK (kind IN ('gate', 'trigger')),
    name        text             NOT NULL CHECK (name <> ''),
    at          timestamptz      NOT NULL,
    epoch       bigint           NOT NULL,
    config_hash text             NOT NULL,
    verdict     text             NOT NULL CHECK (verdict IN ('pass', 'fail', 'inconclusive', 'no data', 'error', 'quiet', 'firing')),
    detail      text             NOT NULL,
    try         text             NOT NULL,
    due         timestamptz,
    dry_run     boolean          NOT NULL,
    samples     bigint           NOT NULL,
    value       double precision NOT NULL,
    bound       double precision NOT NULL,
    threshold   double precision NOT NULL,
    inputs      jsonb,
    actor       text             NOT NULL DEFAULT session_user
);
CREATE INDEX ON migrator.evaluations (migration, kind, name, at, id);
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON migrator.evaluations
    FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

-- +goose StatementBegin
CREATE FUNCTION migrator.keep_evaluation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.at > clock_timestamp() - interval '7 days' THEN
        RAISE EXCEPTION 'evaluation % is younger than a week: DELETE is refused', OLD.id
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $$;
-- +goose StatementEnd
CREATE TRIGGER keep BEFORE DELETE ON migrator.evaluations
    FOR EACH ROW EXECUTE FUNCTION migrator.keep_evaluation();

-- A latch is the newest entry with one of the two new causes, if that is 'trigger'.
ALTER TABLE migrator.history DROP CONSTRAINT history_cause_check;
ALTER TABLE migrator.history ADD CONSTRAINT history_cause_check CHECK (cause IN (
    'created', 'advance', 'rollback', 'fence', 'failure', 'config', 'evict', 'pause', 'resume', 'approve',
    'trigger', 'acknowledge'));
CREATE INDEX ON migrator.history (migration, seq) WHERE cause IN ('trigger', 'acknowledge');

-- The role whose members decide about the migration; '' if none is named.
CREATE FUNCTION migrator.decider(in_migration text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(config #>> '{phases,approval,role}', '') FROM migrator.migrations WHERE name = in_migration
$$;

-- +goose StatementBegin
CREATE FUNCTION migrator.require_member(in_role text, in_may text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF in_role = '' THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = in_role) THEN
        RAISE EXCEPTION 'the role "%" that may % does not exist in the state database; try: CREATE ROLE %; GRANT % TO the people who decide',
            in_role, in_may, quote_ident(in_role), quote_ident(in_role) USING ERRCODE = 'MG010';
    END IF;
    IF NOT pg_has_role(session_user, in_role, 'MEMBER') THEN
        RAISE EXCEPTION '% is not a member of the role %: only its members may %; connect to the state database as one of them',
            session_user, in_role, in_may USING ERRCODE = 'MG010';
    END IF;
END $$;
-- +goose StatementEnd

-- Only members of the role approve, whatever the client is.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION migrator.sign_approval() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    decider text := migrator.decider(NEW.migration);
BEGIN
    IF decider <> '' THEN
        NEW.role := decider;
    END IF;
    PERFORM migrator.require_member(NEW.role, 'approve');
    NEW.actor := session_user;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
-- +goose StatementEnd
ALTER TABLE migrator.approvals ENABLE ALWAYS TRIGGER sign;

-- Refuses an entry with an override by a user who is not a member of the role, and one
-- for a step that needs two people and has one. Authority moves to retain with the step
-- to fenced.
-- +goose StatementBegin
CREATE FUNCTION migrator.check_people() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    way        text[] := ARRAY['legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'fenced', 'retain', 'complete'];
    into_phase text := CASE NEW.to_phase WHEN 'fenced' THEN 'retain' ELSE NEW.to_phase::text END;
    approval   json;
BEGIN
    IF jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN
        PERFORM migrator.require_member(migrator.decider(NEW.migration), 'override a gate');
    END IF;
    IF (array_position(way, NEW.to_phase::text) > array_position(way, NEW.from_phase::text)) IS NOT TRUE OR NEW.from_phase = 'fenced' THEN
        RETURN NEW;
    END IF;
    SELECT config #> '{phases,approval}' INTO approval FROM migrator.migrations WHERE name = NEW.migration;
    IF NOT coalesce((approval -> 'two_people')::jsonb ? into_phase AND (approval -> 'for')::jsonb ? into_phase, false) THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (SELECT FROM migrator.approvals a
                   WHERE a.migration = NEW.migration AND a.to_phase = into_phase AND a.epoch = NEW.from_epoch
                     AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> session_user) THEN
        RAISE EXCEPTION '% needs two people: nobody but % has approved it in this epoch, under this configuration; try: migrator phase approve, as somebody else',
            into_phase, session_user USING ERRCODE = 'MG011';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER check_people BEFORE INSERT ON migrator.history
    FOR EACH ROW EXECUTE FUNCTION migrator.check_people();
ALTER TABLE migrator.history ENABLE ALWAYS TRIGGER check_people;

-- Notifications. A row is written in the transaction of its event, and stays until it is
-- delivered or pruned.
CREATE TABLE migrator.outbox (
    id           uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    migration    text        NOT NULL,
    event        text        NOT NULL CHECK (event IN ('moved', 'rolled-back', 'overridden', 'acknowledged', 'paused', 'resumed', 'held')),
    seq          bigint,                       -- of the event's history entry
    topic        text,                         -- of an event without an entry: one topic is notified once
    detail       jsonb       NOT NULL DEFAULT '{}',
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts     integer     NOT NULL DEFAULT 0,
    next_at      timestamptz NOT NULL DEFAULT clock_timestamp(), -- not to be tried again before
    delivered_at timestamptz,
    failure      text        NOT NULL DEFAULT '',
    UNIQUE (migration, seq),
    UNIQUE (migration, topic)
);
CREATE INDEX ON migrator.outbox (migration, next_at) WHERE delivered_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION migrator.tell() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    event text := CASE
        WHEN NEW.cause IN ('trigger', 'failure') THEN 'rolled-back'
        WHEN NEW.cause = 'acknowledge' THEN 'acknowledged'
        WHEN NEW.cause = 'pause' THEN 'paused'
        WHEN NEW.cause = 'resume' THEN 'resumed'
        WHEN jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN 'overridden'
        WHEN NEW.to_epoch <> NEW.from_epoch THEN 'moved'
    END;
BEGIN
    IF event IS NOT NULL THEN
        INSERT INTO migrator.outbox (migration, event, seq, at) VALUES (NEW.migration, event, NEW.seq, NEW.at);
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tell AFTER INSERT ON migrator.history
    FOR EACH ROW EXECUTE FUNCTION migrator.tell();
