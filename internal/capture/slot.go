package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/store/postgres"
)

// SQLSTATEs that this package distinguishes.
const (
	stateNoSlot   = "42704" // undefined_object: also a publication
	stateNoColumn = "42703" // undefined_column
	stateNotReady = "55000" // of a slot: it was invalidated
)

// slot is the migration's replication slot as the server shows it.
type slot struct {
	there     bool
	alien     string // why it can't be the migration's; ""
	active    int32  // the process that reads it; 0: none
	status    string // wal_status: reserved, extended, unreserved, lost
	reason    string // why the server has invalidated it, where that is shown (since 17); ""
	confirmed pglogrepl.LSN
	held      int64 // bytes of log that are kept for it
	behind    int64 // bytes of log that capture has not confirmed
	safe      int64 // bytes until it is invalidated; -1: no limit
}

// invalidated is why the server gives nothing of the slot any more.
func (s slot) invalidated(name string) string {
	switch s.reason {
	case "", "wal_removed":
		return "the server has removed log that the slot " + name + " needed (max_slot_wal_keep_size)"
	case "idle_timeout":
		return "the server has invalidated the slot " + name + ", which nothing had read for so long (idle_replication_slot_timeout)"
	default:
		return "the server has invalidated the slot " + name + " (" + s.reason + ")"
	}
}

func readSlot(ctx context.Context, legacy *postgres.Legacy) (s slot, err error) {
	var confirmed *string
	err = legacy.Pool().QueryRow(ctx, `
		SELECT CASE WHEN database IS DISTINCT FROM current_database() THEN 'it is of another database'
		            WHEN plugin IS DISTINCT FROM 'pgoutput' THEN 'its plugin is another one' ELSE '' END,
		       coalesce(active_pid, 0), coalesce(wal_status, 'lost'), confirmed_flush_lsn::text,
		       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8, coalesce(safe_wal_size, -1),
		       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::int8, coalesce(to_jsonb(s) ->> 'invalidation_reason', '')
		FROM pg_replication_slots s WHERE slot_name = $1`, legacy.CaptureName()).
		Scan(&s.alien, &s.active, &s.status, &confirmed, &s.held, &s.safe, &s.behind, &s.reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return slot{}, nil
	}
	if err != nil {
		return s, fmt.Errorf("read legacy's replication slots: %w", err)
	}
	s.there = true
	if confirmed != nil {
		s.confirmed, err = pglogrepl.ParseLSN(*confirmed)
	}
	return s, err
}

// publication returns a text that changes when the publication, or its table, is altered, dropped or made again;
// "": there is none. A change that it did not publish meanwhile is in no other place.
func publication(ctx context.Context, legacy *postgres.Legacy) (text string, err error) {
	_, oid := legacy.CaptureTable()
	err = legacy.Pool().QueryRow(ctx, `
		SELECT concat_ws(' ', p.oid, p.xmin, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, r.oid, r.xmin)
		FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $2 WHERE p.pubname = $1`,
		legacy.CaptureName(), oid).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read legacy's publications: %w", err)
	}
	return text, nil
}

// checkTable refuses a table of which an UPDATE or DELETE would fail once it is published, or of which the log
// would not have enough.
//
// [capture-identity]: PostgreSQL refuses the application's own writes of a published table without a replica
// identity.
func checkTable(ctx context.Context, legacy *postgres.Legacy) error {
	name, oid := legacy.CaptureTable()
	var level, without string
	var version int
	var forbidden string
	err := legacy.Pool().QueryRow(ctx, `
		SELECT current_setting('wal_level'), current_setting('server_version_num')::int,
		       coalesce((SELECT p.oid::regprocedure::text FROM pg_proc p -- since 17 it has another argument, with a default
		           WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = 'pg_logical_emit_message' AND p.proargtypes[2] = 'text'::regtype
		             AND NOT has_function_privilege(p.oid, 'EXECUTE') LIMIT 1), ''),
		       coalesce((SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY c.oid)
		FROM (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)) AS tree
		JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND (c.relreplident = 'n'
		   OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
		   OR c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident))), '')`, oid).
		Scan(&level, &version, &forbidden, &without)
	switch {
	case err != nil:
		return fmt.Errorf("check whether changes of legacy table %s can be captured: %w", name, err)
	case legacy.VersionColumn() != "":
		return hint.Errorf(hint.Hint{Text: "leave legacy.version_column out"}, "changes of a table with a version column can't be captured: the log of a delete does not have it")
	case version < 140000:
		return hint.Errorf(hint.Hint{Text: "upgrade legacy's server"}, "legacy's server is PostgreSQL %d: change capture needs 14 or later, which puts markers into the stream", version/10000)
	case level != "logical" && version < 190000:
		return hint.Errorf(hint.Hint{Text: "ALTER SYSTEM SET wal_level = logical, and restart legacy's server"}, "wal_level of legacy's server is %s: changes can't be captured", level)
	case forbidden != "":
		return hint.Errorf(hint.Hint{Text: "GRANT EXECUTE ON FUNCTION " + forbidden + " TO the role"}, "this role may not write markers into legacy's log")
	case without != "":
		return hint.Errorf(hint.Hint{Text: "ALTER TABLE ... REPLICA IDENTITY FULL, or give each a primary key"},
			"no replica identity: %s. If the table were published, PostgreSQL would refuse the application's updates and deletes", without)
	}
	schema := legacy.Schema()
	key := make([]string, len(schema.Key))
	for n, i := range schema.Key {
		key[n] = schema.Fields[i].Name
	}
	var part, column string
	err = legacy.Pool().QueryRow(ctx, `
		SELECT format('%I.%I', n.nspname, c.relname), a.attname::text
		FROM (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)) AS tree
		JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped
		WHERE c.relkind = 'r' AND (a.attgenerated <> '' OR c.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index i
			WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END
			  AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])))
		ORDER BY c.oid, a.attnum LIMIT 1`, oid, key).Scan(&part, &column)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("check whether the log of legacy table %s has its key: %w", name, err)
	}
	return lacksKey(part, column)
}

// lacksKey refuses a replica identity that does not give the key.
func lacksKey(table, column string) error {
	return hint.Errorf(hint.Hint{Text: "ALTER TABLE ... REPLICA IDENTITY FULL, or USING INDEX of a unique index that has the key; no log has a generated column"},
		"the replica identity of %s lacks the key's column %q: the log does not say which record is deleted", table, column)
}

// create makes the publication, then the slot, and returns the progress of one that has read nothing.
//
// [capture-order]: a slot that is made first reads changes of a time without the publication, and fails there
// for good. The slot is made before the barrier, so that no change is between them.
func create(ctx context.Context, legacy *postgres.Legacy, conn *pgconn.PgConn, system pglogrepl.IdentifySystemResult) (Progress, error) {
	name, _ := legacy.CaptureTable()
	if err := checkTable(ctx, legacy); err != nil {
		return Progress{}, err
	}
	// All are remains of a process that ended before it saved what it had made.
	if err := drop(ctx, legacy); err != nil {
		return Progress{}, err
	}
	id := pgx.Identifier{legacy.CaptureName()}.Sanitize()
	// A partition's own TRUNCATE is not published through the root.
	if _, err := legacy.Pool().Exec(ctx, "CREATE PUBLICATION "+id+" FOR TABLE "+name+" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"); err != nil {
		if pgfail.SQLState(err) == "42501" {
			err = hint.With(err, hint.Hint{Text: "let the table's owner do it, or GRANT CREATE ON DATABASE ... TO the role that owns the table"})
		}
		return Progress{}, fmt.Errorf("create the publication of legacy table %s: %w", name, err)
	}
	// Markers from before the slot are not read: those of the time in between do no harm.
	if err := legacy.BeginCapture(ctx); err != nil {
		return Progress{}, err
	}
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn, legacy.CaptureName(), "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return Progress{}, fmt.Errorf("create the replication slot %s: %w", legacy.CaptureName(), err)
	}
	at, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return Progress{}, fmt.Errorf("create the replication slot %s: %w", legacy.CaptureName(), err)
	}
	p := Progress{System: system.SystemID, Timeline: uint32(system.Timeline), Slot: legacy.CaptureName(), Consistent: at, Resume: at}
	p.Publication, err = publication(ctx, legacy)
	return p, err
}

// check returns a LostError unless the slot has all changes from the progress on.
func check(ctx context.Context, legacy *postgres.Legacy, p Progress, system pglogrepl.IdentifySystemResult) error {
	s, err := intact(ctx, legacy, p)
	switch {
	// [capture-progress]: another server, or this one at another time: positions can't be compared.
	case system.SystemID != p.System:
		return lost(fmt.Sprintf("legacy's server has the system identifier %s, and had %s", system.SystemID, p.System))
	case uint32(system.Timeline) != p.Timeline:
		return lost(fmt.Sprintf("legacy's server is on timeline %d, and was on %d: it was failed over or restored", system.Timeline, p.Timeline))
	case err != nil:
		return err
	// Nothing but capture advances the slot, and only to what was saved.
	case s.confirmed > p.Resume:
		return lost(fmt.Sprintf("the slot %s is at %s, and changes from %s on are missing: it was advanced, or made again", p.Slot, s.confirmed, p.Resume))
	case system.XLogPos < p.Resume:
		return lost(fmt.Sprintf("the log of legacy's server ends at %s, and capture was at %s", system.XLogPos, p.Resume))
	}
	return nil
}

// intact reads the slot, and returns a LostError unless it, and the publication, are those of the progress.
func intact(ctx context.Context, legacy *postgres.Legacy, p Progress) (s slot, err error) {
	if s, err = readSlot(ctx, legacy); err != nil {
		return s, err
	}
	replaced, err := legacy.Replaced(ctx)
	if err != nil {
		return s, err
	}
	published, err := publication(ctx, legacy)
	switch {
	case err != nil:
		return s, err
	case !s.there:
		return s, lost("the replication slot " + p.Slot + " is gone")
	case s.alien != "":
		return s, lost("the replication slot " + p.Slot + " is not the migration's: " + s.alien)
	case s.status == "lost":
		return s, lost(s.invalidated(p.Slot))
	case replaced:
		name, _ := legacy.CaptureTable()
		return s, lost("another table has the name " + name + " now, and its changes were not published")
	case published != p.Publication:
		return s, lost("the publication " + p.Slot + " was altered: what was changed meanwhile may be missing")
	}
	return s, nil
}

// unreadWait is how long a process of the server may still read the slot for a connection that is gone.
const unreadWait = 10 * time.Second

// unread waits until no connection reads the slot.
func unread(ctx context.Context, legacy *postgres.Legacy) error {
	for began := time.Now(); ; {
		s, err := readSlot(ctx, legacy)
		switch {
		case err != nil:
			return err
		case s.active == 0:
			return nil
		case time.Since(began) > unreadWait:
			return hint.Errorf(hint.Hint{Text: fmt.Sprintf("find out what it is, and end it: SELECT pg_terminate_backend(%d)", s.active)},
				"another connection reads the replication slot %s (pid %d of legacy's server)", legacy.CaptureName(), s.active)
		}
		if err := sleep.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// drop removes the slot, the publication, and what makes the store write markers.
func drop(ctx context.Context, legacy *postgres.Legacy) error {
	s, err := readSlot(ctx, legacy)
	switch {
	case err != nil:
		return err
	case s.alien != "":
		return hint.Errorf(hint.Hint{Text: "find out whose it is, and drop or rename it"}, "the replication slot %s is not the migration's: %s", legacy.CaptureName(), s.alien)
	case s.there:
		if err := unread(ctx, legacy); err != nil {
			return err
		}
		if _, err := legacy.Pool().Exec(ctx, "SELECT pg_drop_replication_slot($1)", legacy.CaptureName()); err != nil && pgfail.SQLState(err) != stateNoSlot {
			return fmt.Errorf("drop the replication slot %s: %w", legacy.CaptureName(), err)
		}
	}
	if _, err := legacy.Pool().Exec(ctx, "DROP PUBLICATION IF EXISTS "+pgx.Identifier{legacy.CaptureName()}.Sanitize()); err != nil {
		return fmt.Errorf("drop the publication %s: %w", legacy.CaptureName(), err)
	}
	return legacy.EndCapture(ctx)
}

// lostBy makes a LostError of an error of the stream that means that.
func lostBy(ctx context.Context, err error, legacy *postgres.Legacy, p Progress, system pglogrepl.IdentifySystemResult) error {
	state := pgfail.SQLState(err)
	if state != stateNoSlot && state != stateNotReady {
		return err
	}
	system.XLogPos = max(system.XLogPos, p.Resume) // it was asked before
	var gone *LostError
	if why := check(ctx, legacy, p, system); errors.As(why, &gone) {
		return why
	}
	if state == stateNoSlot {
		return lost("the slot " + p.Slot + ", or the publication, is gone, or was when a change was made that is still to be read")
	}
	return lost("the slot " + p.Slot + " was invalidated")
}
