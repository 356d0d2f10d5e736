-- +goose Up
CREATE DOMAIN migrator.phase AS text CHECK (VALUE IN (
    'legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'retain', 'complete',
    'fenced', 'lifting', 'returning'));

-- One row a migration. The row is the lock of everything that depends on the route:
-- a transaction that reads the route and acts on it locks the row in share mode, one
-- that changes the route locks it exclusively.
CREATE TABLE migrator.migrations (
    name        text           PRIMARY KEY CHECK (name ~ '^[a-z0-9_-]{1,63}$'),
    environment text           NOT NULL,
    config      json           NOT NULL, -- as it was applied: its hash is over the migration file, not over this text
    config_hash text           NOT NULL,
    schema      json           NOT NULL,
    reversible  boolean        NOT NULL,
    lease_ms    bigint         NOT NULL CHECK (lease_ms > 0),
    renew_ms    bigint         NOT NULL CHECK (renew_ms > 0),
    phase       migrator.phase NOT NULL,
    percent     integer        NOT NULL CHECK (percent BETWEEN 0 AND 10000), -- hundredths of a per cent
    epoch       bigint         NOT NULL CHECK (epoch > 0),
    phase_since timestamptz    NOT NULL,
    route_since timestamptz    NOT NULL,
    paused      text           NOT NULL DEFAULT '',
    attempt     text           NOT NULL DEFAULT '',
    history_seq bigint         NOT NULL DEFAULT 0, -- of the newest history entry: shows that the last entries are missing
    fence_era   bigint         NOT NULL DEFAULT 0 CHECK (fence_era BETWEEN 0 AND 4294967295),
    -- Never changes. PostgreSQL lets a role lock a row only if it may update some
    -- column of it: applications get this one.
    lockable    boolean        NOT NULL DEFAULT true CHECK (lockable),
    CHECK ((phase IN ('dual-read', 'cutover')) = (percent > 0))
);

-- Every route that the migration was on: it shows which routes a lagging instance may still be on.
CREATE TABLE migrator.epochs (
    migration  text           NOT NULL REFERENCES migrator.migrations (name),
    epoch      bigint         NOT NULL,
    phase      migrator.phase NOT NULL,
    percent    integer        NOT NULL,
    began_at   timestamptz    NOT NULL,
    settled_at timestamptz, -- for operators: no decision rests on it
    PRIMARY KEY (migration, epoch)
);
CREATE INDEX ON migrator.epochs (migration, epoch DESC) WHERE phase = 'legacy';

-- +goose StatementBegin
CREATE FUNCTION migrator.keep_epochs_rising() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.epoch < OLD.epoch
       OR (NEW.phase, NEW.percent) IS DISTINCT FROM (OLD.phase, OLD.percent) AND NEW.epoch = OLD.epoch THEN
        RAISE EXCEPTION 'migration %: a change of route needs a new epoch', OLD.name
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER keep_epochs_rising BEFORE UPDATE ON migrator.migrations
    FOR EACH ROW EXECUTE FUNCTION migrator.keep_epochs_rising();
