-- +goose Up
-- What an application's role does, it does by the functions of this file. It touches no table. Times, ends
-- of leases and actors are the database's; what it says of itself is bounded.

-- A lease belongs to the role that was granted, of which the session's is a member: see migrator.holds.
-- Leases of before have none, and belong to every application of the migration.
ALTER TABLE migrator.leases ADD COLUMN role text;
ALTER TABLE migrator.leases ALTER COLUMN role SET DEFAULT session_user;

-- NOT VALID: rows that are there stay, and may be deleted.
ALTER TABLE migrator.leases
    ADD CONSTRAINT leases_length CHECK (expires_at <= renewed_at + interval '5 minutes') NOT VALID,
    ADD CONSTRAINT leases_texts CHECK (octet_length(id) BETWEEN 1 AND 100 AND octet_length(instance) <= 256 AND octet_length(about) <= 4000
        AND octet_length(fault) <= 256 AND octet_length(fault_of) <= 256 AND octet_length(origin) <= 100) NOT VALID,
    ADD CONSTRAINT leases_fault_executed CHECK (fault_executed >= 0) NOT VALID;
ALTER TABLE migrator.journal
    ADD CONSTRAINT journal_bounds CHECK (octet_length(key) <= 8192 AND octet_length(reason) <= 2000 AND changes > 0) NOT VALID;
ALTER TABLE migrator.return_journal
    ADD CONSTRAINT return_journal_bounds CHECK (octet_length(key) <= 8192) NOT VALID;
-- A range of sequence numbers can't end with the highest integer, and an infinite time is in no bucket.
ALTER TABLE migrator.windows
    ADD CONSTRAINT windows_bounds CHECK (sequence BETWEEN 0 AND 4611686018427387903 AND epoch > 0 AND discarded BETWEEN 0 AND 1000000000000
        AND isfinite(began_at) AND isfinite(ended_at) AND octet_length(incarnation) <= 256 AND octet_length(instance) <= 256
        AND octet_length(config_hash) <= 256) NOT VALID;

-- Windows of telemetry that were there all the same and can't be added up: the roll-up deletes and counts them.
CREATE TABLE migrator.unreadable (
    migration text        PRIMARY KEY REFERENCES migrator.migrations (name),
    windows   bigint      NOT NULL CHECK (windows > 0),
    last_at   timestamptz NOT NULL,
    last_why  text        NOT NULL CHECK (length(last_why) <= 500)
);

-- +goose StatementBegin
CREATE FUNCTION migrator.count_unreadable(of_migration text, more bigint, why text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    INSERT INTO migrator.unreadable AS u (migration, windows, last_at, last_why) VALUES (of_migration, more, clock_timestamp(), left(why, 500))
    ON CONFLICT (migration) DO UPDATE SET windows = u.windows + excluded.windows, last_at = excluded.last_at, last_why = excluded.last_why;
END $$;

-- The functions below that every renewal calls are in PL/pgSQL, which keeps its plans: a function in SQL that can't be inlined
-- is planned again at each call. Without force_generic_plan their statements would be too: a plan for one list of one
-- key looks cheaper.
CREATE OR REPLACE FUNCTION migrator.may(of_kind text, of_migration text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    -- A row of a role that was dropped joins nothing.
    IF EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
               WHERE (g.kind = of_kind OR of_kind = 'viewer' AND g.kind IN ('operator', 'decider'))
                 AND g.migration IN ('*', of_migration) AND pg_has_role(session_user, r.oid, 'MEMBER')) THEN
        RETURN true;
    END IF;
    -- pg_has_role is true for a superuser, whatever the role.
    RETURN pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
END $$;

-- require_fleet refuses a session that may not be of the migration's fleet. An operator's may: a drill runs an
-- application of its own.
CREATE FUNCTION migrator.require_fleet(of_migration text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF NOT migrator.may('application', of_migration) AND NOT migrator.may('operator', of_migration) THEN
        PERFORM migrator.require('application', of_migration);
    END IF;
END $$;

-- fleet_role is the role that a lease of this session belongs to: the one that was granted, so that an application
-- whose sessions have roles of a day (members of one) keeps its leases.
CREATE FUNCTION migrator.fleet_role(of_migration text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN coalesce((SELECT g.role FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
                     WHERE g.kind = 'application' AND g.migration IN ('*', of_migration) AND pg_has_role(session_user, r.oid, 'MEMBER')
                     ORDER BY g.role <> session_user, g.role LIMIT 1), session_user);
END $$;

-- holds: whether a lease of the role is this session's.
CREATE FUNCTION migrator.holds(of_role text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF of_role IS NULL OR of_role = session_user THEN
        RETURN true;
    END IF;
    RETURN EXISTS (SELECT FROM pg_roles r WHERE r.rolname = of_role AND pg_has_role(session_user, r.oid, 'MEMBER'));
END $$;

-- enter begins what must not overlap with a move: the turnstile, then the migration's row in share mode.
-- [journal-serial], [join-locked], [return-journal]: a move waits for this transaction and sees its rows, or this
-- transaction reads the route that the move has committed: each statement of a volatile function has a snapshot of its
-- own, and under a stricter isolation the lock of a row that has changed is refused.
CREATE FUNCTION migrator.enter(of_migration text) RETURNS migrator.migrations
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE m migrator.migrations;
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('migrator route ' || of_migration, 0));
    SELECT * INTO m FROM migrator.migrations WHERE name = of_migration FOR SHARE;
    RETURN m;
END $$;

-- The share of compared reads of a route.
CREATE FUNCTION migrator.shadow_of(m migrator.migrations) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN CASE WHEN m.phase IN ('cutover', 'grace') THEN m.config #>> ARRAY['phases', m.phase::text, 'shadow'] END;
END $$;

-- lease_length is how long a lease lasts from now on: nothing that an application says is above 5 minutes.
CREATE FUNCTION migrator.lease_length(asked_ms bigint, applied_ms bigint) RETURNS interval
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF asked_ms NOT BETWEEN 1 AND 300000 THEN
        RAISE EXCEPTION 'a lease of % ms: want 1 to 300000', asked_ms USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN coalesce(asked_ms, least(applied_ms, 300000)) * interval '1 millisecond';
END $$;

-- live_routes are every route that an instance with a live lease may still be on, and those on which an instance with a
-- lapsed lease continues to read the target.
CREATE FUNCTION migrator.live_routes(of_migration text) RETURNS TABLE (phase text, percent integer, epoch bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    -- [held-routes], [journal-held]: from the lowest epoch that a counted lease acknowledged: its
    -- instance may be on any later one. [lapsed-held]: on routes that read the target alone a lapsed
    -- lease counts too. [loss-held]: epochs that were only reported are rows of epochs as well.
    RETURN QUERY SELECT e.phase::text, e.percent, e.epoch FROM migrator.epochs e
    WHERE e.migration = of_migration AND e.epoch >= (SELECT min(l.acknowledged_epoch) FROM migrator.leases l
        WHERE l.migration = of_migration AND (l.expires_at > clock_timestamp()
              OR e.phase IN ('fenced', 'lifting', 'returning', 'retain', 'complete'))
          AND (l.ended_at IS NULL OR l.ended_at > clock_timestamp()))
    ORDER BY e.epoch DESC;
END $$;

-- lost_writes: whether an instance that had acknowledged the epoch may have had writes that the target lacks: see
-- MayHaveLostWritesSQL. [unclean-mark]: from the acknowledged epoch on, since the instance may have swapped to any later one.
CREATE FUNCTION migrator.lost_writes(of_migration text, acknowledged bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = of_migration AND e.epoch >= acknowledged
                   AND e.phase IN ('shadow-write', 'dual-read', 'cutover', 'grace'))
$$;

-- join_fleet takes a lease: see Fleet.Join. applied: what the migration moves.
CREATE FUNCTION migrator.join_fleet(of_migration text, of_lease text, of_instance text, of_about text, length_ms bigint, previous text, of_moves text)
RETURNS TABLE (phase text, percent integer, epoch bigint, shadow text, lease_ms bigint, renew_ms bigint, fence_era bigint, reversible boolean,
               config_hash text, mark_owner text, mark_incarnation text, mark_beat bigint, applied text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    m       migrator.migrations := migrator.enter(of_migration);
    before  record; -- the process's former lease
    now_at  timestamptz;
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    SELECT l.acknowledged_epoch, l.origin INTO before FROM migrator.leases l
        WHERE l.id = previous AND l.migration = of_migration AND migrator.holds(l.role);
    IF FOUND THEN
        -- [rejoin-epoch]: leases of the same process end here without a mark: its queue continues, under the lease
        -- that this transaction takes.
        UPDATE migrator.leases l SET ended = 'superseded', ended_at = clock_timestamp(), lost_at = NULL
            WHERE l.migration = of_migration AND l.ended IS DISTINCT FROM 'evicted' AND (l.ended_at IS NULL OR l.ended_at > clock_timestamp())
              AND (l.id = previous OR l.origin = before.origin) AND migrator.holds(l.role);
    ELSE
        -- [superseded-counts]: a lease that another process takes over counts until it would have expired: if both still
        -- run, the route of the first stays live. [unclean-mark]: the first may have had writes that no other process
        -- knows of. Another role's instance of the same name keeps its lease.
        UPDATE migrator.leases l SET ended = 'superseded',
               ended_at = least(greatest(l.expires_at, clock_timestamp()), clock_timestamp() + interval '5 minutes'),
               lost_at = CASE WHEN migrator.lost_writes(l.migration, l.acknowledged_epoch)
                              THEN least(greatest(l.expires_at, clock_timestamp()), clock_timestamp() + interval '5 minutes') END
            WHERE l.migration = of_migration AND l.instance = of_instance AND l.ended_at IS NULL AND migrator.holds(l.role);
    END IF;
    now_at := clock_timestamp();
    -- [join-locked]: the lease acknowledges the epoch that this transaction reads, under the lock that a move takes
    -- exclusively. [rejoin-epoch]: not above what the former lease acknowledged. [join-described]: a trigger compares
    -- what the instance moves with what is applied, under the same lock.
    INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at, origin, moves, role)
        VALUES (of_lease, m.name, of_instance, left(of_about, 1000), least(m.epoch, before.acknowledged_epoch), now_at, now_at,
                now_at + migrator.lease_length(length_ms, m.lease_ms), coalesce(before.origin, of_lease), of_moves, migrator.fleet_role(of_migration));
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), least(m.lease_ms, 300000), m.renew_ms, m.fence_era, m.reversible,
        m.config_hash, of_migration || '@' || i.id, k.incarnation, k.confirmed, m.moves
        FROM (SELECT) one LEFT JOIN (migrator.marks k CROSS JOIN migrator.identity i) ON k.migration = of_migration;
END $$;

-- renew_lease extends a live lease: see Fleet.Renew. instance is NULL if it is live no more.
CREATE FUNCTION migrator.renew_lease(of_migration text, of_lease text, acknowledged bigint, length_ms bigint)
RETURNS TABLE (phase text, percent integer, epoch bigint, shadow text, lease_ms bigint, renew_ms bigint, fence_era bigint, reversible boolean,
               config_hash text, mark_owner text, mark_incarnation text, mark_beat bigint, applied text, instance text, moves text, unsettled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    m migrator.migrations := migrator.enter(of_migration);
    mine record;
    settles boolean := false;
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    -- [lease-final]: only a lease that has neither ended nor expired is renewed: a rollback may have counted it as lapsed
    -- and not waited for it. The acknowledged epoch never decreases, and never exceeds the present one.
    UPDATE migrator.leases l SET renewed_at = now.at, expires_at = now.at + migrator.lease_length(length_ms, m.lease_ms),
           acknowledged_epoch = greatest(l.acknowledged_epoch, least(acknowledged, m.epoch))
        FROM (SELECT clock_timestamp() AS at) now
        WHERE l.id = of_lease AND l.migration = of_migration AND l.ended_at IS NULL AND l.expires_at > now.at AND migrator.holds(l.role)
        RETURNING l.instance, l.moves, l.acknowledged_epoch INTO mine;
    IF mine.acknowledged_epoch = m.epoch THEN
        settles := EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = of_migration AND e.epoch = m.epoch AND e.settled_at IS NULL);
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), least(m.lease_ms, 300000), m.renew_ms, m.fence_era, m.reversible,
        m.config_hash, of_migration || '@' || i.id, k.incarnation, k.confirmed, m.moves, mine.instance, mine.moves, settles
        FROM (SELECT) one LEFT JOIN (migrator.marks k CROSS JOIN migrator.identity i) ON k.migration = of_migration;
END $$;

-- leave_fleet ends a lease cleanly: see Fleet.Leave. It reports whether anything changed.
CREATE FUNCTION migrator.leave_fleet(of_migration text, of_lease text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    -- [leave-drained]: removes the mark of possibly lost writes, since the instance reports that all its operations have
    -- drained. An eviction remains: it is in the history, and has its own mark.
    UPDATE migrator.leases l SET ended = 'left', lost_at = NULL, ended_at = least(l.ended_at, clock_timestamp())
        WHERE l.id = of_lease AND l.migration = of_migration AND (l.ended IS NULL OR l.ended = 'superseded') AND migrator.holds(l.role);
    RETURN FOUND;
END $$;

-- settle records when the present epoch was settled, if it is.
CREATE FUNCTION migrator.settle(of_migration text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    UPDATE migrator.epochs e SET settled_at = clock_timestamp() FROM migrator.migrations m
        WHERE m.name = of_migration AND e.migration = m.name AND e.epoch = m.epoch AND e.settled_at IS NULL
          AND NOT EXISTS (SELECT FROM migrator.leases l WHERE l.migration = m.name AND (l.ended_at IS NULL OR l.ended_at > clock_timestamp())
                          AND (l.acknowledged_epoch < m.epoch OR l.expires_at <= clock_timestamp()));
END $$;

-- journal_keys records keys that the target lacks: see Fleet.Journal. live_phases and live_percents are of the routes that
-- instances may be on.
CREATE FUNCTION migrator.journal_keys(of_migration text, keys bytea[], versions text[], changed bigint[], reasons text[])
RETURNS TABLE (phase text, percent integer, epoch bigint, shadow text, live_phases text[], live_percents integer[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    m migrator.migrations := migrator.enter(of_migration);
    live_phases text[];
    live_percents integer[];
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    IF cardinality(keys) > 100000 OR EXISTS (SELECT FROM unnest(changed) c WHERE c IS NULL OR c NOT BETWEEN 1 AND 1000000) THEN
        RAISE EXCEPTION 'more than 100000 keys at once, or a number of changes that is not 1 to 1000000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- [journal-held]: read in the transaction that journals: a route that an instance may have swapped to, and not
    -- acknowledged yet, counts too.
    SELECT array_agg(r.phase), array_agg(r.percent) INTO live_phases, live_percents FROM migrator.live_routes(of_migration) r;
    -- [journal-version]: the highest failed version. [journal-changes]: the count only grows, so a repair that began before
    -- finds the difference. [no-journal-fails]: behind a fence no key enters.
    IF m.phase IN ('legacy', 'shadow-write', 'dual-read', 'cutover', 'grace') THEN
        INSERT INTO migrator.journal AS j (migration, key, version, changes, reason, first_at, last_at)
            SELECT m.name, l.key, l.version, l.changes, left(l.reason, 500), clock_timestamp(), clock_timestamp()
            FROM unnest(keys, versions, changed, reasons) AS l (key, version, changes, reason)
            ORDER BY l.key
            ON CONFLICT (migration, key) DO UPDATE SET
                version = greatest(j.version, excluded.version), changes = j.changes + excluded.changes,
                reason = excluded.reason, last_at = excluded.last_at;
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), live_phases, live_percents;
END $$;

CREATE FUNCTION migrator.has_journaled(of_migration text, of_key bytea) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN EXISTS (SELECT FROM migrator.journal j WHERE j.migration = of_migration AND j.key = of_key);
END $$;

-- return_keys records keys that are about to be written to the target and that legacy lacks: see Fleet.Return. Nothing is
-- recorded unless the route that it returns is retain and of the epoch.
CREATE FUNCTION migrator.return_keys(of_migration text, at_epoch bigint, keys bytea[])
RETURNS TABLE (phase text, percent integer, epoch bigint, shadow text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE m migrator.migrations := migrator.enter(of_migration);
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    IF cardinality(keys) > 100000 THEN
        RAISE EXCEPTION 'more than 100000 keys at once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- [mark-lost]: a write of retain on a target that was emptied would rest on nothing.
    PERFORM migrator.refuse_lost_target(of_migration);
    -- [return-journal]: the phase and the epoch are compared under the lock: once a rollback has committed returning, no key
    -- enters and no write follows.
    IF m.phase = 'retain' AND m.epoch = at_epoch THEN
        INSERT INTO migrator.return_journal AS j (migration, key, changes, first_at, last_at)
            SELECT m.name, k.key, 1, clock_timestamp(), clock_timestamp() FROM unnest(keys) AS k (key) ORDER BY k.key
            ON CONFLICT (migration, key) DO UPDATE SET changes = j.changes + 1, last_at = excluded.last_at;
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m);
END $$;

-- observe takes windows of telemetry: see Fleet.Observe. It reports whether the lease is known, live or ended: counts of
-- another migration, or of another role, open no gate. Ages and lengths are in microseconds.
CREATE FUNCTION migrator.observe(of_migration text, of_lease text, incarnations text[], sequences bigint[], instances text[], epochs bigint[],
    hashes text[], ages bigint[], lengths bigint[], discarded bigint[], counts bytea[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE now_at timestamptz := clock_timestamp();
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    IF NOT EXISTS (SELECT FROM migrator.leases l WHERE l.id = of_lease AND l.migration = of_migration AND migrator.holds(l.role)) THEN
        RETURN false;
    END IF;
    IF cardinality(sequences) > 500 OR EXISTS (SELECT FROM unnest(ages, lengths, counts) w (age, length, counts)
            WHERE (w.age BETWEEN 0 AND 7 * 86400000000 AND w.length BETWEEN 0 AND 86400000000
                   AND octet_length(w.counts) > 1 AND get_byte(w.counts, 0) BETWEEN 1 AND 9) IS NOT TRUE) THEN
        RAISE EXCEPTION 'more than 500 windows, or one whose age, length or counts are out of range' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.windows (migration, incarnation, sequence, instance, epoch, config_hash, began_at, ended_at, discarded, counts)
        SELECT of_migration, w.incarnation, w.sequence, w.instance, w.epoch, w.config_hash,
               now_at - (w.age + w.length) * interval '1 microsecond', now_at - w.age * interval '1 microsecond', w.discarded, w.counts
        FROM unnest(incarnations, sequences, instances, epochs, hashes, ages, lengths, discarded, counts)
            AS w (incarnation, sequence, instance, epoch, config_hash, age, length, discarded, counts)
        JOIN migrator.epochs e ON e.migration = of_migration AND e.epoch = w.epoch
        ON CONFLICT DO NOTHING;
    RETURN true;
END $$;

-- report_fault records what an instance did of an injected fault, and returns the active one: see Fleet.Fault.
CREATE FUNCTION migrator.report_fault(of_migration text, of_lease text, of_fault text, executed bigint, first_age bigint, is_over boolean)
RETURNS TABLE (fault text, remaining_ms bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    UPDATE migrator.leases l SET
           fault = CASE WHEN NOT is_over THEN nullif(of_fault, '') END,
           fault_of = CASE WHEN of_fault = '' THEN l.fault_of ELSE of_fault END,
           fault_executed = CASE WHEN of_fault = '' THEN l.fault_executed ELSE executed END,
           fault_first_at = CASE WHEN of_fault = '' THEN l.fault_first_at
                                 WHEN executed > 0 THEN clock_timestamp() - least(greatest(first_age, 0), 86400000000) * interval '1 microsecond' END
        WHERE l.id = of_lease AND l.migration = of_migration AND migrator.holds(l.role) AND CASE WHEN of_fault = '' THEN l.fault IS NOT NULL
              ELSE (l.fault, l.fault_of, l.fault_executed) IS DISTINCT FROM (CASE WHEN NOT is_over THEN of_fault END, of_fault, executed) END;
    RETURN QUERY SELECT m.fault::text, (extract(epoch FROM m.fault_until - clock_timestamp()) * 1000)::bigint FROM migrator.migrations m
        WHERE m.name = of_migration AND m.environment = 'staging' AND m.fault_until > clock_timestamp();
END $$;

-- route is the present route and those that instances may be on.
CREATE FUNCTION migrator.route(of_migration text)
RETURNS TABLE (phase text, percent integer, epoch bigint, live_phases text[], live_percents integer[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch,
        ARRAY(SELECT r.phase FROM migrator.live_routes(of_migration) r), ARRAY(SELECT r.percent FROM migrator.live_routes(of_migration) r)
        FROM migrator.migrations m WHERE m.name = of_migration;
END $$;

-- applied_file is the migration file that is applied, without URLs, and the columns that it moves.
CREATE FUNCTION migrator.applied_file(of_migration text) RETURNS TABLE (config text, columns text, former_columns text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN QUERY SELECT m.config::text, m.schema::text, m.former_schema::text FROM migrator.migrations m WHERE m.name = of_migration;
END $$;

-- fleet_migrations are the names of the migrations that this session may be of the fleet of.
CREATE FUNCTION migrator.fleet_migrations() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT name FROM migrator.migrations WHERE migrator.may('application', name) OR migrator.may('operator', name) ORDER BY name
$$;

-- A reason is one line of text that a terminal may print.
CREATE FUNCTION migrator.one_line(t text, most integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(regexp_replace(t, '[[:cntrl:]]+', ' ', 'g'), most)
$$;

-- conflict_of is a route that an instance may be on, and beside which dual-read must not be.
-- [held-routes]: a rollback must not commit a route beside an incompatible one either: see phases.Compatible.
CREATE FUNCTION migrator.conflict_of(of_migration text) RETURNS TABLE (phase text, percent integer, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.phase, r.percent, r.epoch FROM migrator.live_routes(of_migration) r
    WHERE r.phase NOT IN ('shadow-write', 'dual-read', 'cutover', 'grace') LIMIT 1
$$;

-- take_reads_back rolls back to reads from legacy because the target refused a write: see Fleet.RollBack. It returns the route
-- that the migration was on, and why nothing was done, if nothing was: 'legacy' reads already, authority 'moves', or an instance
-- may still be on the route 'held'.
CREATE FUNCTION migrator.take_reads_back(of_migration text, write_epoch bigint, reason text)
RETURNS TABLE (phase text, percent integer, epoch bigint, undone text, held_phase text, held_percent integer, held_epoch bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    m migrator.migrations;
    held record;
    undone text := '';
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    -- [held-routes]: the row is locked exclusively: the route, the attempt and the live routes are read and decided on as one.
    PERFORM pg_advisory_xact_lock(hashtextextended('migrator route ' || of_migration, 0));
    SELECT * INTO m FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT r.* INTO held FROM migrator.conflict_of(of_migration) r;
    -- [fence-attempt]: dual-read behind a fence would be a route whose writes legacy refuses and that no command lifts.
    IF m.phase IN ('legacy', 'shadow-write', 'dual-read') THEN
        undone := 'legacy';
    ELSIF m.phase NOT IN ('cutover', 'grace') OR m.attempt <> '' THEN
        undone := 'moves';
    ELSIF held.phase IS NOT NULL THEN
        undone := 'held';
    ELSE
        PERFORM migrator.rescue(of_migration, m.epoch, reason, jsonb_build_object('write_epoch', write_epoch));
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, undone, held.phase, held.percent, held.epoch;
END $$;

-- rescue moves to dual-read. It is also called by applications of earlier releases.
CREATE OR REPLACE FUNCTION migrator.rescue(in_migration text, in_from_epoch bigint, in_reason text, in_evidence jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    m     migrator.migrations;
    other record;
BEGIN
    PERFORM migrator.require_fleet(in_migration);
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = in_migration FOR UPDATE;
    IF m.phase NOT IN ('cutover', 'grace') OR m.attempt <> '' THEN
        RAISE EXCEPTION 'migration % is at %: reads do not go back to legacy from there', m.name, m.phase
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT r.* INTO other FROM migrator.conflict_of(in_migration) r;
    IF FOUND THEN
        RAISE EXCEPTION 'an instance may still be on % (epoch %), which must not run beside dual-read', other.phase, other.epoch
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- [loss-epoch]: move takes an epoch above all that are known; it refuses if the epoch is not the present one any more.
    RETURN migrator.move(in_migration, in_from_epoch, 'dual-read', 10000, 'failure', migrator.one_line(in_reason, 500),
        jsonb_build_object('write_epoch', in_evidence -> 'write_epoch', 'held', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'phase', r.phase, 'percent', r.percent, 'epoch', r.epoch)), '[]') FROM migrator.live_routes(in_migration) r)), '', 0);
END $$;

CREATE OR REPLACE FUNCTION migrator.witness(in_migration text, in_epoch bigint, in_phase text, in_percent integer, in_instance text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    present bigint;
BEGIN
    PERFORM migrator.require_fleet(in_migration);
    SELECT epoch INTO STRICT present FROM migrator.migrations WHERE name = in_migration FOR SHARE;
    IF in_epoch > present + 1000000 THEN -- a mistaken or hostile one must not use the numbers up
        RAISE EXCEPTION 'migration % is in epoch %: epoch % can not be', in_migration, present, in_epoch
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF in_percent NOT BETWEEN 0 AND 10000 OR (in_phase IN ('dual-read', 'cutover')) <> (in_percent > 0) THEN
        RAISE EXCEPTION 'there is no route % at % of 10000', in_phase, in_percent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF in_epoch > present THEN
        INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at, witnessed_at, witness)
            VALUES (in_migration, in_epoch, in_phase, in_percent, clock_timestamp(), clock_timestamp(), migrator.one_line(in_instance, 200))
            ON CONFLICT DO NOTHING;
    END IF;
END $$;
-- +goose StatementEnd

-- Roles that had an application's privileges keep what they have, so that an upgrade interrupts nothing: an application of an
-- earlier release writes the tables, and one of this release calls the functions. migrator init --grant-application takes the
-- tables away.
INSERT INTO migrator.grants (role, kind)
    SELECT DISTINCT r.rolname, 'application' FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.oid = 'migrator.leases'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> c.relowner
      AND NOT has_table_privilege(a.grantee, c.oid, 'DELETE') -- an operator's
ON CONFLICT DO NOTHING;

REVOKE ALL ON FUNCTION migrator.count_unreadable(text, bigint, text), migrator.require_fleet(text), migrator.fleet_role(text), migrator.holds(text),
    migrator.enter(text), migrator.shadow_of(migrator.migrations), migrator.lease_length(bigint, bigint), migrator.live_routes(text),
    migrator.lost_writes(text, bigint), migrator.join_fleet(text, text, text, text, bigint, text, text),
    migrator.renew_lease(text, text, bigint, bigint), migrator.leave_fleet(text, text), migrator.settle(text),
    migrator.journal_keys(text, bytea[], text[], bigint[], text[]), migrator.has_journaled(text, bytea),
    migrator.return_keys(text, bigint, bytea[]),
    migrator.observe(text, text, text[], bigint[], text[], bigint[], text[], bigint[], bigint[], bigint[], bytea[]),
    migrator.report_fault(text, text, text, bigint, bigint, boolean), migrator.route(text), migrator.applied_file(text),
    migrator.fleet_migrations(), migrator.one_line(text, integer), migrator.conflict_of(text), migrator.take_reads_back(text, bigint, text) FROM PUBLIC;
-- +goose StatementBegin
DO $$
DECLARE
    of_role text;
BEGIN
    FOR of_role IN SELECT g.role FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role WHERE g.kind = 'application' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION migrator.join_fleet(text, text, text, text, bigint, text, text),
            migrator.renew_lease(text, text, bigint, bigint), migrator.leave_fleet(text, text), migrator.settle(text),
            migrator.journal_keys(text, bytea[], text[], bigint[], text[]), migrator.has_journaled(text, bytea), migrator.return_keys(text, bigint, bytea[]),
            migrator.observe(text, text, text[], bigint[], text[], bigint[], text[], bigint[], bigint[], bigint[], bytea[]),
            migrator.report_fault(text, text, text, bigint, bigint, boolean), migrator.route(text), migrator.applied_file(text),
            migrator.fleet_migrations(), migrator.take_reads_back(text, bigint, text) TO %I', of_role);
    END LOOP;
END $$;
-- +goose StatementEnd
