package control

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// RefusedError stops a return from retain: legacy refuses some of the rows to be replayed.
type RefusedError struct {
	At      phases.Route
	Keys    int64 // in the return journal
	Refused []store.Refusal
}

const namedRefusals = 3 // in an error's text

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("legacy refuses %d of the %d records that were written since the fence (", len(e.Refused), e.Keys)
	for i, r := range e.Refused {
		if i == namedRefusals {
			text += fmt.Sprintf("; and %d more", len(e.Refused)-i)
			break
		}
		if i > 0 {
			text += "; "
		}
		text += fmt.Sprintf("key %q: %s", string(r.Key), r)
	}
	if e.At.Phase == phases.Returning {
		return text + "): the return has stopped, and writes wait"
	}
	return text + "): nothing was rolled back"
}

// Hint implements hint.Hinter.
func (e *RefusedError) Hint() hint.Hint {
	return hint.Hint{Do: hint.SetAside, Text: "or change these records, or what refuses them; a rehearsal lists all"}
}

// Rehearsal is what a return from retain would meet.
type Rehearsal struct {
	Keys    int64 // in the return journal
	Missing int64 // of those, lost by the target: legacy has older states of them
	// Unproven were listed, and the target has nothing of them since the fence, nor legacy a row that
	// shows a loss: writes that never came, unless the target has lost data in this stay.
	Unproven int64
	Suspect  bool            // the target may have lost data: each unproven key may be lost
	Refused  []store.Refusal // by legacy
	Took     time.Duration
	Stop     time.Duration // for how long writes are expected to wait in the rollback
}

// Rehearse replays all keys of the return journal in a transaction of legacy that is rolled
// back, while the application writes. It changes nothing.
func (c *Controller) Rehearse(ctx context.Context) (Rehearsal, error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return Rehearsal{}, err
	}
	switch at := e.Status.Route; {
	case at.Phase != phases.Retain:
		return Rehearsal{}, refuse(hint.Hint{Do: hint.Status}, "the migration is at %s: only a rollback from retain has something to rehearse", at)
	case !e.Status.Reversible:
		return Rehearsal{}, &InputError{errIrreversible}
	}
	if err := c.checkFence(ctx, e.Status); err != nil {
		return Rehearsal{}, err
	}
	return c.rehearse(ctx, e.Status)
}

func (c *Controller) rehearse(ctx context.Context, st phases.Status) (Rehearsal, error) {
	began := time.Now()
	if st.ReturnKeys > 0 {
		c.report("rehearsing the return of %d keys", st.ReturnKeys)
	}
	r := Rehearsal{Suspect: st.TargetDoubted}
	after, ended := record.Key(""), false
	next := func() (rows []store.Row, err error) {
		for len(rows) == 0 && !ended {
			keys, err := c.State.ReturnKeys(ctx, c.Migration, after, returnBatch)
			if err != nil {
				return nil, err
			}
			if len(keys) == 0 {
				break
			}
			after = keys[len(keys)-1]
			ended = after == "" // the only key
			entries, lost, err := c.splitLost(ctx, keys)
			if err != nil {
				return nil, err
			}
			if rows, err = c.rowsOf(ctx, entries); err != nil {
				return nil, err
			}
			unproven, err := c.unproven(ctx, entries)
			if err != nil {
				return nil, err
			}
			r.Unproven += unproven
			r.Keys += int64(len(keys))
			r.Missing += int64(len(lost))
			if r.Keys%(20*returnBatch) == 0 {
				c.report("rehearsed %d of %d keys", r.Keys, max(st.ReturnKeys, r.Keys))
			}
		}
		return rows, nil
	}
	var err error
	r.Refused, err = c.Legacy.Rehearse(ctx, st.Attempt, next)
	r.Took = time.Since(began)
	if st.ReturnRate == 0 && r.Took > 0 {
		st.ReturnRate = float64(r.Keys) / r.Took.Seconds() / 2 // a replay also writes the target
	}
	r.Stop = phases.ExpectedStop(st)
	return r, err
}

// Check refuses a return that would not replay every record, as far as that was not accepted.
func (r Rehearsal) Check(at phases.Route, acceptMissing int64, setAside bool) error {
	// [return-lost], [return-refused]: before returning is committed: in retain reads and writes
	// of all records continue.
	// [return-unproven]: what neither store has may be lost too, if the target has lost data.
	unproven := int64(0)
	if r.Suspect {
		unproven = r.Unproven
	}
	if r.Missing+unproven > acceptMissing {
		return &MissingError{At: at, Keys: r.Keys, Missing: r.Missing, Unproven: unproven, Accepted: acceptMissing}
	}
	if len(r.Refused) > 0 && !setAside {
		return &RefusedError{At: at, Keys: r.Keys, Refused: r.Refused}
	}
	return nil
}

// unproven counts the entries that don't show a write of retain: absent ones, and those from before
// the fence.
func (c *Controller) unproven(ctx context.Context, entries []store.Entry) (n int64, err error) {
	first, err := c.Legacy.FirstEra(ctx)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.Version.Era() >= first {
			continue
		}
		n++
	}
	return n, nil
}

// rowsOf are the rows that legacy must have for the target's entries.
func (c *Controller) rowsOf(ctx context.Context, entries []store.Entry) ([]store.Row, error) {
	first, err := c.Legacy.FirstEra(ctx)
	if err != nil {
		return nil, err
	}
	var older []record.Key
	rows := make([]store.Row, len(entries))
	for i, e := range entries {
		switch e.Presence {
		case store.Live:
			rows[i] = store.Row{Key: e.Key, Found: true, Record: e.Record}
		// [return-all]: a key that the target has deleted is deleted in legacy; one that it never
		// got is not there either.
		case store.Tombstone, store.Absent:
			rows[i] = store.Row{Key: e.Key}
		default:
			// [owned-only]: neither store's record is removed for it.
			detail := ""
			if e.Detail != "" {
				detail = " (" + e.Detail + ")"
			}
			return nil, hint.Errorf(hint.Hint{Text: "restore the record of this key in the target, or delete the value there: then it counts as deleted, or as lost"},
				"key %q: the target has no record of the migration but %s%s", string(e.Key), e.Presence, detail)
		}
		if !e.Version.IsZero() && e.Version.Era() < first {
			older = append(older, e.Key)
		}
	}
	if len(older) == 0 {
		return rows, nil
	}
	// [return-older]: legacy has this state or a later one.
	have, err := c.Legacy.Lookup(ctx, older)
	if err != nil {
		return nil, fmt.Errorf("look up what legacy has of %d keys: %w", len(older), err)
	}
	of := make(map[record.Key]store.Row, len(have))
	for _, row := range have {
		of[row.Key] = row
	}
	for i := range rows {
		if row, ok := of[rows[i].Key]; ok {
			rows[i] = store.Row{Key: row.Key, Found: row.Found, Record: row.Record}
		}
	}
	return rows, nil
}
