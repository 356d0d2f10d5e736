package capture

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Check tells whether legacy's changes can be captured, and what would be created; nothing where they are not to be.
// It changes nothing.
func Check(ctx context.Context, of store.Legacy, mode phases.CaptureMode) []store.Check {
	if !mode.On() {
		return nil
	}
	legacy, ok := of.(*postgres.Legacy)
	if !ok {
		return []store.Check{{Name: "capture", Result: store.Refused, Detail: "changes are captured from PostgreSQL alone, and legacy is another store"}}
	}
	f := checks{}
	if err := checkTable(ctx, legacy); err != nil {
		f.fail("capture-table", err)
	} else {
		f.add("capture-table", store.Good, "", "the changes of the table can be captured: it, or each of its partitions, has a replica identity")
	}
	for _, c := range []struct {
		name string
		make func(context.Context, *postgres.Legacy) error
	}{{"capture-table", f.parts}, {"capture-role", f.role}, {"capture-slots", f.slots}, {"capture-slot", f.slot}, {"capture-connection", f.connection}} {
		if err := c.make(ctx, legacy); err != nil {
			f.fail(c.name, err)
		}
	}
	return store.ByName(f.list)
}

type checks struct{ list []store.Check }

func (f *checks) add(name string, result store.CheckResult, remedy, format string, args ...any) {
	f.list = append(f.list, store.Check{Name: name, Result: result, Detail: fmt.Sprintf(format, args...), Hint: hint.Hint{Text: remedy}})
}

func (f *checks) fail(name string, err error) {
	h, _ := hint.Of(err)
	f.list = append(f.list, store.Check{Name: name, Result: store.Refused, Detail: err.Error(), Hint: h})
}

// parts refuses partitions whose changes are in no log.
func (f *checks) parts(ctx context.Context, legacy *postgres.Legacy) error {
	_, oid := legacy.CaptureTable()
	var foreign, unlogged string
	err := legacy.Pool().QueryRow(ctx, `SELECT coalesce(string_agg(c.oid::regclass::text, ', ') FILTER (WHERE c.relkind = 'f'), ''),
			coalesce(string_agg(c.oid::regclass::text, ', ') FILTER (WHERE c.relpersistence <> 'p' AND c.relkind = 'r'), '')
		FROM (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)) AS tree JOIN pg_class c ON c.oid = tree.oid`, oid).Scan(&foreign, &unlogged)
	switch {
	case err != nil:
		return err
	case foreign != "":
		f.add("capture-table", store.Refused, "detach it, or move what it has into a table of this server", "%s is a foreign table: its changes are not in this server's log", foreign)
	case unlogged != "":
		f.add("capture-table", store.Refused, "ALTER TABLE ... SET LOGGED", "%s is unlogged: its changes are in no log", unlogged)
	}
	return nil
}

// role checks what the role of the migration file's URL may.
func (f *checks) role(ctx context.Context, legacy *postgres.Legacy) error {
	table, oid := legacy.CaptureTable()
	var user, database, owner, managed string
	var replicates, creates, owns, there bool
	err := legacy.Pool().QueryRow(ctx, `SELECT current_user::text, current_database()::text, pg_get_userbyid(c.relowner)::text,
			coalesce((SELECT rolname::text FROM pg_roles WHERE rolname IN ('rds_replication', 'cloudsqlsuperuser', 'azure_pg_admin') ORDER BY rolname DESC LIMIT 1), ''),
			(SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = session_user)
				OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER')),
			has_database_privilege(current_database(), 'CREATE'), pg_has_role(c.relowner, 'USAGE'),
			EXISTS (SELECT FROM pg_publication WHERE pubname = $2 AND pg_has_role(pubowner, 'USAGE'))
		FROM pg_class c WHERE c.oid = $1`, oid, legacy.CaptureName()).Scan(&user, &database, &owner, &managed, &replicates, &creates, &owns, &there)
	if err != nil {
		return err
	}
	quoted := pgx.Identifier{user}.Sanitize()
	if replicates {
		f.add("capture-role", store.Good, "", "%s may read the log", user)
	} else {
		grant := "ALTER ROLE " + quoted + " REPLICATION, as a superuser"
		switch managed {
		case "rds_replication":
			grant = "GRANT rds_replication TO " + quoted + ", as the master user"
		case "cloudsqlsuperuser", "azure_pg_admin":
			grant = "ALTER ROLE " + quoted + " REPLICATION, as the server's administrator"
		}
		f.add("capture-role", store.Refused, grant, "%s may not read the log: it lacks REPLICATION", user)
	}
	switch {
	case there:
	case !owns:
		f.add("capture-publication", store.Refused, "GRANT "+pgx.Identifier{owner}.Sanitize()+" TO "+quoted,
			"%s does not own %s: it can't publish it", user, table)
	case !creates:
		f.add("capture-publication", store.Refused, "GRANT CREATE ON DATABASE "+pgx.Identifier{database}.Sanitize()+" TO "+quoted,
			"%s may not create a publication in the database %s", user, database)
	default:
		f.add("capture-publication", store.Good, "", "%s may publish %s", user, table)
	}
	return nil
}

// slots checks that the server has room, and what bounds the log that it keeps.
func (f *checks) slots(ctx context.Context, legacy *postgres.Legacy) error {
	var slots, used, senders, sending int
	var keep int64
	var idle string
	var own bool
	err := legacy.Pool().QueryRow(ctx, `SELECT current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots),
			current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'),
			(SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
			coalesce(nullif(current_setting('idle_replication_slot_timeout', true), '0'), ''),
			EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, legacy.CaptureName()).Scan(&slots, &used, &senders, &sending, &keep, &idle, &own)
	switch {
	case err != nil:
		return err
	case own:
		f.add("capture-slots", store.Good, "", "the server has the replication slot")
	case used >= slots:
		f.add("capture-slots", store.Refused, fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d, and restart legacy's server; or drop a slot that is not needed", slots+2),
			"all %d replication slots of the server are taken", slots)
	case sending >= senders:
		f.add("capture-slots", store.Refused, fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d, and restart legacy's server", senders+2),
			"all %d processes that send the log are taken", senders)
	default:
		f.add("capture-slots", store.Good, "", "%d of %d replication slots are free, and %d of %d processes that send the log", slots-used, slots, senders-sending, senders)
	}
	if idle != "" {
		f.add("capture-idle", store.Warned, "ALTER SYSTEM SET idle_replication_slot_timeout = 0, or longer than a daemon is ever away, and SELECT pg_reload_conf()",
			"idle_replication_slot_timeout is %s: the slot is invalidated once no daemon has read it for so long", idle)
	}
	if keep < 0 {
		f.add("capture-wal-kept", store.Warned, "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB', or what the disk has room for, and SELECT pg_reload_conf()",
			"max_slot_wal_keep_size has no limit: while no daemon runs, nothing but the disk's end bounds the log that is kept for the slot")
	} else {
		f.add("capture-wal-kept", store.Good, "", "the server keeps at most %s of log for a slot", humanize.Bytes(keep<<20))
	}
	return nil
}

// slot says what would be created.
func (f *checks) slot(ctx context.Context, legacy *postgres.Legacy) error {
	s, err := readSlot(ctx, legacy)
	switch name := legacy.CaptureName(); {
	case err != nil:
		return err
	case s.alien != "":
		f.add("capture-slot", store.Refused, "find out whose it is, and drop or rename it", "the replication slot %s is not the migration's: %s", name, s.alien)
	case s.there && s.status == "lost":
		f.add("capture-slot", store.Warned, "see the migration's status", "%s", s.invalidated(name))
	case s.there:
		f.add("capture-slot", store.Good, "", "replication slot and publication %s are there; the server keeps %s of log for it", name, humanize.Bytes(s.held))
	default:
		f.add("capture-slot", store.Good, "", "a publication and a replication slot will be created, both named %s, and with them a row in migrator_legacy.capture", name)
	}
	return nil
}

const connectWithin = 5 * time.Second

// connection opens one that reads the log: a pooler does not pass it, and pg_hba.conf may have no line for it.
func (f *checks) connection(ctx context.Context, legacy *postgres.Legacy) error {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, legacy.ReplicationConfig())
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		if _, err = pglogrepl.IdentifySystem(ctx, conn); err == nil {
			if err := legacy.SettleReplication(ctx, conn); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return hint.Errorf(hint.Hint{Text: "give legacy's server itself in legacy.url, not a pooler: poolers do not pass connections for replication; in its pg_hba.conf they need a line for the database, not for \"replication\""},
			"connect to legacy's server for its log: %w", err)
	}
	f.add("capture-connection", store.Good, "", "legacy's server takes a connection for its log")
	return nil
}

// CheckOrphans names slots of migrations that are no more: legacy's server keeps its log for them for good.
func CheckOrphans(ctx context.Context, of store.Legacy) []store.Check {
	legacy, ok := of.(*postgres.Legacy)
	if !ok {
		return nil
	}
	f := checks{}
	orphans, err := legacy.OrphanSlots(ctx)
	if err != nil { // the role may not be migrator's own
		f.list = append(f.list, store.Check{Name: "capture-orphans", Result: store.Unchecked, Detail: err.Error()})
	}
	for _, o := range orphans {
		f.add("capture-orphans", store.Warned, "SELECT pg_drop_replication_slot('"+o.Slot+"'), and DROP PUBLICATION IF EXISTS "+o.Slot,
			"the replication slot %s is of no migration that is captured here: legacy's server keeps %s of log for it", o.Slot, humanize.Bytes(o.Held))
	}
	return f.list
}
