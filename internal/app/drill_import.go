package app

import (
	"context"
	"crypto/ed25519"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
)

// ExportedDrill describes a signed drill.
type ExportedDrill struct {
	Drill     int64  `json:"drill"`
	File      string `json:"file"` // that the caller writes it to
	PublicKey string `json:"public_key"`
	Rehearsal string `json:"rehearsal"`
}

// ExportDrill signs a drill that passed, for another environment's state.
func ExportDrill(ctx context.Context, drills *drills.Runs, id int64, key ed25519.PrivateKey) (e ExportedDrill, file []byte, err error) {
	report, err := drills.Report(ctx, id)
	if err != nil {
		return e, nil, err
	}
	if doubts := report.Doubts(); len(doubts) > 0 {
		return e, nil, notYetHint(hint.Hint{Do: hint.DrillShow, Of: []string{strconv.FormatInt(id, 10)}}, "drill %d has failed: only a passed drill is exported (%s)", id, doubts[0])
	}
	public, _ := key.Public().(ed25519.PublicKey)
	file, err = drill.Sign(report, key)
	return ExportedDrill{Drill: id, PublicKey: drill.EncodeKey(public), Rehearsal: report.Rehearsal}, file, err
}

// ImportedDrill is a drill that was taken from a signed file.
type ImportedDrill struct {
	drills.Run
	Added bool `json:"added"` // false: this file was imported before
	Fits  bool `json:"fits"`  // the rehearsed configuration is the applied one
}

// maxClockAhead is how far another database's clock may be ahead of this one's.
const maxClockAhead = 5 * time.Minute

// ImportDrill records a drill from the text of a signed file, named path in errors. The
// trusted key is the applied migration file's. given is the key if that names none; nil: none
// is given.
func ImportDrill(ctx context.Context, store *state.Store, name, path string, text []byte, given ed25519.PublicKey) (i ImportedDrill, err error) {
	m, err := Applied(ctx, store, name)
	if err != nil {
		return i, err
	}
	key := given
	switch applied := m.Gates.Drill.PublicKey; {
	case applied != "" && given != nil:
		return i, refuse("the applied migration file names the trusted key, and another one was given")
	case applied != "":
		if key, err = drill.ParsePublicKey(applied); err != nil {
			return i, err
		}
	case given == nil:
		return i, refuseHint(hint.Hint{Do: hint.Apply, Text: "with gates: {drill: {public_key: ...}} in the migration file"}, "no key is trusted")
	}
	report, digest, err := drill.Open(text, key)
	if err != nil {
		return i, refuse("%s: %w", path, err)
	}
	e, err := store.Snapshot(ctx, name)
	switch {
	case err != nil:
		return i, err
	case report.Migration != name:
		return i, refuse("%s is a drill of the migration %s, not of %s", path, report.Migration, name)
	case len(report.Doubts()) > 0:
		return i, refuse("%s is no drill that passed: %s", path, strings.Join(report.Doubts(), "; "))
	case report.Finished.After(e.Now.Add(maxClockAhead)):
		return i, refuse("%s finished at %s, which is in the future", path, report.Finished.Format(time.RFC3339))
	}
	i.Run, i.Added, err = drills.New(store.Pool(), name).Import(ctx, report, digest, drill.EncodeKey(key))
	if err != nil {
		return i, err
	}
	i.Fits = report.Rehearsal == m.DrillHash()
	if !i.Fits {
		err = notYet("it opens no gate: the rehearsed configuration is not the one applied to %s (rehearsal %.12s, applied %.12s)", name, report.Rehearsal, m.DrillHash())
	}
	return i, err
}
