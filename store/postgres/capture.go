package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/record"
)

// MarkerKind is what a Marker tells.
type MarkerKind string

// Kinds of markers.
const (
	MarkBarrier MarkerKind = "barrier" // every change before it is older than the barrier's version
	MarkFence   MarkerKind = "fence"   // the last change that legacy took before the fence is before it
	MarkLift    MarkerKind = "lift"    // legacy takes writes again behind it
	MarkEra     MarkerKind = "era"     // changes behind it are of the era
	MarkBeat    MarkerKind = "beat"    // nothing: it lets a slot advance while the table is quiet
)

// Marker is a message in legacy's log, which change capture reads in its place among the changes. It is
// written in the transaction that holds the table's lock: each change commits either before the
// marker or behind it.
type Marker struct {
	Kind    MarkerKind     `json:"kind"`
	Era     uint32         `json:"era,omitempty"`
	Attempt string         `json:"attempt,omitempty"` // of a fence or lift
	Version record.Version `json:"version,omitzero"`  // of a barrier
	Proof   string         `json:"proof"`             // of the migration: every role may write messages into the log
}

// CaptureName is the name of the migration's publication and replication slot. A slot's name is one for
// the whole server and of few characters, so it has a hash of what it leaves out.
func (l *Legacy) CaptureName() string {
	return captureName(l.pool.Config().ConnConfig.Database, l.name)
}

const capturePrefix = "migrator_"

func captureName(database, migration string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(migration) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	sum := sha256.Sum256([]byte(database + "\x00" + migration))
	return fmt.Sprintf(capturePrefix+"%.40s_%s", b.String(), hex.EncodeToString(sum[:4]))
}

// Orphan is a replication slot in the form of a migration's, of which legacy's database has no migration.
type Orphan struct {
	Slot string
	Held int64 // bytes of log that the server keeps for it
}

// OrphanSlots lists the slots of this database whose migrations are no more, or are not captured.
func (l *Legacy) OrphanSlots(ctx context.Context) (list []Orphan, err error) {
	known := map[string]bool{}
	rows, err := l.pool.Query(ctx, "SELECT name FROM migrator_legacy.capture")
	if err == nil {
		var name string
		_, err = pgx.ForEachRow(rows, []any{&name}, func() error {
			known[captureName(l.pool.Config().ConnConfig.Database, name)] = true
			return nil
		})
	}
	if err != nil && !errors.Is(asNotInstalled(err), errNotInstalled) {
		return nil, fmt.Errorf("read which migrations are captured: %w", err)
	}
	rows, err = l.pool.Query(ctx, `SELECT slot_name::text, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8 FROM pg_replication_slots
		WHERE database = current_database() AND plugin = 'pgoutput' AND slot_name ~ '^migrator_.*_[0-9a-f]{8}$' ORDER BY slot_name`)
	if err == nil {
		var o Orphan
		_, err = pgx.ForEachRow(rows, []any{&o.Slot, &o.Held}, func() error {
			if !known[o.Slot] {
				list = append(list, o)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read legacy's replication slots: %w", err)
	}
	return list, nil
}

// MarkerPrefix is the prefix of the migration's markers.
func (l *Legacy) MarkerPrefix() string { return "migrator:" + l.name }

// CaptureTable is the quoted name of the table, and its number in the catalog.
func (l *Legacy) CaptureTable() (name string, oid uint32) {
	return l.shape.name.Sanitize(), l.shape.oid
}

// VersionColumn is the name of the migration's version column; "": the versions are positions in the log.
func (l *Legacy) VersionColumn() string { return l.version }

// ReplicationConfig returns the settings of a connection that reads the log of legacy's database: values are
// printed as in the store's own sessions.
func (l *Legacy) ReplicationConfig() *pgconn.Config {
	config := l.pool.Config().ConnConfig.Config.Copy()
	config.RuntimeParams["replication"] = "database"
	config.AfterConnect = nil
	return config
}

// SettleReplication refuses a connection by ReplicationConfig whose session has other settings, as behind a pooler that
// drops what a client asks for: the log would print other texts, which nothing else shows.
func (l *Legacy) SettleReplication(ctx context.Context, conn *pgconn.PgConn) error {
	want := maps.Clone(sessionSettings)
	for name, value := range limitSettings {
		if l.pool.Config().ConnConfig.RuntimeParams[name] == value { // else the URL has it
			want[name] = value
		}
	}
	return settle(ctx, conn, "legacy", want)
}

// CapturedType is the number of the type that a field's column had when the store was opened; 0: the table
// lacks the column.
func (l *Legacy) CapturedType(field int) uint32 { return l.shape.columns[field].typ.oid }

// AppendCaptured appends the canonical text of a field's value as the log prints it; false if the log prints
// this type in another way than a query, so that the row must be read. Its errors contain no value.
func (l *Legacy) AppendCaptured(dst []byte, field int, raw []byte) ([]byte, bool, error) {
	c := l.shape.columns[field]
	if c.output("") != quote(c.name) {
		return dst, false, nil
	}
	dst, err := appendCanonical(dst, c.format, raw)
	if err != nil {
		return dst, false, fmt.Errorf("column %q of %s (%s): %w", c.name, l.table(), c.declared, err)
	}
	return dst, true, nil
}

// SlotWaitsFor names the transaction that the creation of the migration's slot waits for, and how to end it; "":
// none. It may be of another table, or of another database: the log can be decoded from where each that was open has
// ended.
func (l *Legacy) SlotWaitsFor(ctx context.Context) (what, end string, err error) {
	var h holder
	var prepared float64
	err = l.pool.QueryRow(ctx, `
		SELECT coalesce(k.pid, 0), `+aboutSession+`, coalesce(p.gid, ''), coalesce(p.owner::text, ''), coalesce(nullif(p.database, current_database()), ''),
		       coalesce(extract(epoch FROM statement_timestamp() - p.prepared), 0)::float8
		FROM pg_replication_slots s JOIN pg_locks w ON w.pid = s.active_pid AND w.locktype = 'transactionid' AND NOT w.granted
		JOIN pg_locks k ON k.locktype = 'transactionid' AND k.transactionid = w.transactionid AND k.granted
		LEFT JOIN pg_stat_activity a ON a.pid = k.pid LEFT JOIN pg_prepared_xacts p ON p.transaction = k.transactionid
		WHERE s.slot_name = $1 LIMIT 1`, l.CaptureName()).Scan(&h.pid, &h.about, &h.gid, &h.owner, &h.database, &prepared)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read what the replication slot %s waits for: %w", l.CaptureName(), err)
	}
	h.age = time.Duration(prepared * float64(time.Second))
	return h.String(), h.end(), nil
}

// OldestTransaction names the transaction that has been open for longest, of those that have written anything and that
// this role may see; "": none.
func (l *Legacy) OldestTransaction(ctx context.Context) (string, error) {
	var h holder
	var prepared float64
	err := l.pool.QueryRow(ctx, `
		SELECT pid, about, gid, owner, age FROM (
			SELECT a.xact_start AS began, a.pid, `+aboutSession+` AS about, '' AS gid, '' AS owner, 0::float8 AS age
			FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
			UNION ALL
			SELECT p.prepared, 0, '', p.gid, p.owner::text, extract(epoch FROM statement_timestamp() - p.prepared)::float8 FROM pg_prepared_xacts p) AS t
		ORDER BY began LIMIT 1`).Scan(&h.pid, &h.about, &h.gid, &h.owner, &prepared)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	h.age = time.Duration(prepared * float64(time.Second))
	return h.String(), err
}

// captureSQL makes the table of the migrations whose changes are captured. No other role may read it.
const captureSQL = `
CREATE TABLE IF NOT EXISTS migrator_legacy.capture (
	name text PRIMARY KEY REFERENCES migrator_legacy.migration ON DELETE CASCADE,
	secret text NOT NULL
);
COMMENT ON TABLE migrator_legacy.capture IS 'migrations whose changes are captured, with the secret of their markers in the log';
REVOKE ALL ON migrator_legacy.capture FROM PUBLIC;
`

// BeginCapture makes the store write markers from now on.
func (l *Legacy) BeginCapture(ctx context.Context) error {
	_, err := l.pool.Exec(ctx, "INSERT INTO migrator_legacy.capture (name, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING", l.name, rand.Text())
	if err != nil {
		err = fmt.Errorf("note in legacy's database that changes are captured: %w", asNotInstalled(err))
	}
	return err
}

// EndCapture makes it write none.
func (l *Legacy) EndCapture(ctx context.Context) error {
	_, err := l.pool.Exec(ctx, "DELETE FROM migrator_legacy.capture WHERE name = $1", l.name)
	if err != nil {
		err = fmt.Errorf("note in legacy's database that changes are captured no longer: %w", asNotInstalled(err))
	}
	return err
}

// MarkerSecret is what the migration's own markers have; "": its changes are not captured.
func (l *Legacy) MarkerSecret(ctx context.Context) (string, error) {
	secret, err := l.secret(ctx, l.pool)
	if err != nil {
		err = fmt.Errorf("read the secret of markers in legacy's log: %w", err)
	}
	return secret, err
}

func (l *Legacy) secret(ctx context.Context, db rowQuerier) (secret string, err error) {
	err = db.QueryRow(ctx, "SELECT secret FROM migrator_legacy.capture WHERE name = $1", l.name).Scan(&secret)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return secret, asNotInstalled(err)
}

// Beat writes a marker that tells nothing.
func (l *Legacy) Beat(ctx context.Context) error {
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error { return l.mark(ctx, tx, Marker{Kind: MarkBeat}) })
	if err != nil {
		return fmt.Errorf("write a marker into the log of legacy's server: %w", err)
	}
	return nil
}

// mark writes a marker if the migration's changes are captured.
//
// [capture-marked]: in the transaction that changes the era or the fence, under the table's lock.
func (l *Legacy) mark(ctx context.Context, tx pgx.Tx, m Marker) (err error) {
	if m.Proof, err = l.secret(ctx, tx); err != nil || m.Proof == "" {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "SELECT pg_logical_emit_message(true, $1, $2::text)", l.MarkerPrefix(), string(text))
	return err
}

// dropCapture removes the slot, which else would keep legacy's log for good, and the publication.
func (l *Legacy) dropCapture(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database() AND plugin = 'pgoutput'", l.CaptureName()); err != nil {
		return fmt.Errorf("drop the replication slot %s: %w", l.CaptureName(), err)
	}
	_, err := tx.Exec(ctx, "DROP PUBLICATION IF EXISTS "+quote(l.CaptureName()))
	return err
}
