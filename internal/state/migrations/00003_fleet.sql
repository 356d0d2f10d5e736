-- +goose Up
-- A lease is live while expires_at is in the future and it has not ended; lapsed when it
-- expired and has not ended. ended_at may be in the future: a lease that a newer one of
-- the same instance superseded counts until it would have expired.
CREATE TABLE migrator.leases (
    id                 text        PRIMARY KEY,
    migration          text        NOT NULL REFERENCES migrator.migrations (name),
    instance           text        NOT NULL CHECK (instance <> ''),
    about              text        NOT NULL,
    acknowledged_epoch bigint      NOT NULL,
    joined_at          timestamptz NOT NULL,
    renewed_at         timestamptz NOT NULL,
    expires_at         timestamptz NOT NULL,
    ended_at           timestamptz,
    ended              text        CHECK (ended IN ('left', 'evicted', 'superseded')),
    lost_at            timestamptz, -- when it ended uncleanly, perhaps with writes that the target never got
    CHECK ((ended_at IS NULL) = (ended IS NULL))
) WITH (fillfactor = 50); -- renewals find room on the same page
CREATE INDEX ON migrator.leases (migration, ended_at);
CREATE INDEX ON migrator.leases (migration, lost_at) WHERE lost_at IS NOT NULL;

-- Journaled keys: their copy in the target is known to be behind. Keys are bytes: those of a
-- bytea column need not be UTF-8.
CREATE TABLE migrator.journal (
    migration text        NOT NULL REFERENCES migrator.migrations (name),
    key       bytea       NOT NULL,
    version   text        COLLATE "C" NOT NULL CHECK (version ~ '^[0-9a-f]{32}$'), -- the highest that the target lacks
    changes   bigint      NOT NULL,
    reason    text        NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    PRIMARY KEY (migration, key)
);

-- Keys that the target took in retain and that legacy lacks.
CREATE TABLE migrator.return_journal (
    migration text        NOT NULL REFERENCES migrator.migrations (name),
    key       bytea       NOT NULL,
    changes   bigint      NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    PRIMARY KEY (migration, key)
);
