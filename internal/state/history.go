package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Entry is one entry of a migration's history. The database sets Seq, At, Actor and the
// hashes: no client can choose them.
type Entry struct {
	Seq        int64           `json:"seq"`
	At         time.Time       `json:"at"`
	Actor      string          `json:"actor"` // the database's session_user, or the role of its caller's token: see Via
	Cause      phases.Cause    `json:"cause"`
	From       phases.Route    `json:"from"`
	To         phases.Route    `json:"to"` // the same as From where the route did not change
	Reason     string          `json:"reason,omitempty"`
	ConfigHash string          `json:"config_hash"`
	Evidence   json.RawMessage `json:"evidence"`
	PrevHash   string          `json:"prev_hash"` // hexadecimal; "" in the first entry
	Hash       string          `json:"hash"`
}

// Via is what an entry came by if its actor acted by a token: the role of the server's session, and the token's ID.
// Without a token both are zero.
func (e Entry) Via() (server string, token int64) {
	var evidence struct {
		Via struct {
			Role  string `json:"role"`
			Token int64  `json:"token"`
		} `json:"via"`
	}
	if json.Unmarshal(e.Evidence, &evidence) != nil {
		return "", 0
	}
	return evidence.Via.Role, evidence.Via.Token
}

// EntryColumns are the columns of an entry, for ScanEntry.
const EntryColumns = `seq, at, actor, cause, from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch,
	reason, config_hash, evidence::text, encode(prev_hash, 'hex'), encode(hash, 'hex')`

// ScanEntry reads a row of EntryColumns.
func ScanEntry(row pgx.CollectableRow) (e Entry, err error) {
	var evidence string
	err = row.Scan(&e.Seq, &e.At, &e.Actor, &e.Cause, &e.From.Phase, &e.From.Percent, &e.From.Epoch,
		&e.To.Phase, &e.To.Percent, &e.To.Epoch, &e.Reason, &e.ConfigHash, &evidence, &e.PrevHash, &e.Hash)
	e.Evidence = json.RawMessage(evidence)
	return e, err
}

// History returns the newest entries, up to limit, in the order they were made.
func (s *Store) History(ctx context.Context, migration string, limit int) ([]Entry, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+EntryColumns+` FROM migrator.history
		WHERE migration = $1 ORDER BY seq DESC LIMIT $2`, migration, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	entries, err := pgx.CollectRows(rows, ScanEntry)
	slices.Reverse(entries)
	if err == nil && len(entries) == 0 {
		_, err = s.Status(ctx, migration)
	}
	return entries, statedb.Explain(err)
}

// note adds an entry about what this process has seen, with the cause loss or table. It changes no route,
// and decides nothing. The caller's transaction has the migration's row exclusively.
func note(ctx context.Context, tx pgx.Tx, migration string, cause phases.Cause, reason string, evidence any) error {
	doc, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	// The row's lock orders the entries: the trigger chains each to the newest, whose number the
	// migration's row has.
	_, err = tx.Exec(ctx, `SELECT migrator.note($1, $2, $3, $4::jsonb)`, migration, string(cause), statedb.CleanText(reason), string(doc))
	return err
}

// BrokenHistoryError reports the first entry of the history that was changed or removed.
type BrokenHistoryError struct {
	Migration string
	Seq       int64 // the first entry that is wrong
	What      string
}

func (e *BrokenHistoryError) Error() string {
	return fmt.Sprintf("the history of %s was tampered with at entry %d: %s", e.Migration, e.Seq, e.What)
}

// Hint implements hint.Hinter.
func (e *BrokenHistoryError) Hint() hint.Hint {
	return hint.Hint{Text: "compare the history with a backup of the state database"}
}

// VerifyHistory recomputes the hash chain here, not in the database, and compares
// its end with the migration's route. n is the number of entries found intact;
// *BrokenHistoryError names the first that is not.
//
// From the contents it recomputes what the rules of authority demanded: see rules. An anchor is an entry as it
// was anchored outside of the database: the entry of its number must have its hash.
func (s *Store) VerifyHistory(ctx context.Context, migration string, anchors ...Anchor) (n int64, err error) {
	broken := func(what string) error {
		return &BrokenHistoryError{Migration: migration, Seq: n + 1, What: what}
	}
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		var gone *forgottenEnd
		if errors.Is(err, statedb.ErrUnknownMigration) {
			gone, err = readForgotten(ctx, tx, migration, err)
		}
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT `+EntryColumns+` FROM migrator.history WHERE migration = $1 ORDER BY seq`, migration)
		if err != nil {
			return err
		}
		defer rows.Close()
		demanded, err := s.rules(ctx, migration)
		if err != nil {
			return err
		}
		var last Entry
		for rows.Next() {
			e, err := ScanEntry(rows)
			switch {
			case err != nil:
				return err
			case e.Seq != n+1:
				return broken(fmt.Sprintf("entry %d follows entry %d", e.Seq, n))
			case e.PrevHash != last.Hash:
				return broken("its previous hash is not that of the entry before it")
			case e.Hash != entryHash(migration, e):
				return broken("its content does not match its hash")
			// Neither has a share of compared reads.
			case n > 0 && e.From != last.To && (last.Cause != phases.CauseForgotten || e.Cause != phases.CauseCreated):
				return broken(fmt.Sprintf("it leads from %s (epoch %d), the entry before it to %s (epoch %d)", e.From, e.From.Epoch, last.To, last.To.Epoch))
			}
			if what := demanded.check(e); what != "" {
				return broken(what)
			}
			for _, a := range anchors {
				if a.Seq == e.Seq && a.Hash != e.Hash {
					return broken(fmt.Sprintf("it was anchored at %s with another content: the history was written again from here or before", a.At.UTC().Format(time.RFC3339)))
				}
			}
			last, n = e, n+1
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, a := range anchors {
			if a.Seq > n {
				return broken(fmt.Sprintf("entry %d, which was anchored at %s, is missing", a.Seq, a.At.UTC().Format(time.RFC3339)))
			}
		}
		if gone != nil {
			if n != gone.seq || last.Hash != gone.hash || last.Cause != phases.CauseForgotten {
				return broken(fmt.Sprintf("entry %d, with which the migration was forgotten, is missing or another one", gone.seq))
			}
			return nil
		}
		var newest int64
		if err := tx.QueryRow(ctx, `SELECT history_seq FROM migrator.migrations WHERE name = $1`, migration).Scan(&newest); err != nil {
			return err
		}
		// A chain without its last entries is intact; the number in the migration's row shows that
		// they are missing.
		if n != newest {
			return broken(fmt.Sprintf("entry %d, the newest one written, is missing", newest))
		}
		if present := st.Route; last.To != (phases.Route{Phase: present.Phase, Percent: present.Percent, Epoch: present.Epoch}) {
			return broken(fmt.Sprintf("the migration is at %s (epoch %d), the last entry leads to %s (epoch %d)", st.Route, st.Route.Epoch, last.To, last.To.Epoch))
		}
		return nil
	})
	return n, statedb.Explain(err)
}

// forgottenEnd is the end of the history of a forgotten migration.
type forgottenEnd struct {
	seq  int64
	hash string
}

// readForgotten returns unknown if no migration of this name was forgotten.
func readForgotten(ctx context.Context, q statedb.Querier, migration string, unknown error) (*forgottenEnd, error) {
	var end forgottenEnd
	err := q.QueryRow(ctx, `SELECT last_seq, encode(last_hash, 'hex') FROM migrator.forgotten WHERE migration = $1 ORDER BY id DESC LIMIT 1`, migration).Scan(&end.seq, &end.hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, unknown
	}
	return &end, err
}

// entryHash is SHA-256 of the previous hash and of each of these texts as
// <bytes>:<text>, in this order: the same bytes as the database's trigger hashes.
func entryHash(migration string, e Entry) string {
	prev, err := hex.DecodeString(e.PrevHash)
	if err != nil {
		return ""
	}
	var b bytes.Buffer
	b.Write(prev)
	for _, text := range []string{
		migration, strconv.FormatInt(e.Seq, 10), e.At.UTC().Format("2006-01-02T15:04:05.000000Z"), e.Actor, string(e.Cause),
		string(e.From.Phase), strconv.Itoa(int(e.From.Percent)), strconv.FormatInt(e.From.Epoch, 10),
		string(e.To.Phase), strconv.Itoa(int(e.To.Percent)), strconv.FormatInt(e.To.Epoch, 10),
		e.Reason, e.ConfigHash, string(e.Evidence),
	} {
		b.WriteString(strconv.Itoa(len(text)))
		b.WriteByte(':')
		b.WriteString(text)
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}
