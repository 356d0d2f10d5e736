package app

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
)

// ExportedDrill is a drill as it was signed.
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
	if !report.Passed {
		return e, nil, notYet("drill %d has failed: there is nothing to hand on; try: migrator drill show %d", id, id)
	}
	public, _ := key.Public().(ed25519.PublicKey)
	file, err = drill.Sign(report, key)
	return ExportedDrill{Drill: id, PublicKey: drill.EncodeKey(public), Rehearsal: report.Rehearsal}, file, err
}

// ImportedDrill is a drill that was taken from a signed file.
type ImportedDrill struct {
	drills.Run
	Added bool `json:"added"` // false: this file was imported before
	Fits  bool `json:"fits"`  // what was rehearsed is what the applied description says
}

// mostAhead is how far another database's clock may be ahead of this one's.
const maxClockAhead = 5 * time.Minute

// ImportDrill records a drill from the text of a signed file, named path in errors. The
// key that is trusted is the applied migration file's; given is one for where that names
// none, nil: there is none.
func ImportDrill(ctx context.Context, store *state.Store, name, path string, text []byte, given ed25519.PublicKey) (i ImportedDrill, err error) {
	m, err := Applied(ctx, store, name)
	if err != nil {
		return i, err
	}
	key := given
	switch applied := m.Gates.Drill.PublicKey; {
	case applied != "" && given != nil:
		return i, refuse("the applied description names the key that is trusted; leave --public-key out")
	case applied != "":
		if key, err = drill.ParsePublicKey(applied); err != nil {
			return i, err
		}
	case given == nil:
		return i, refuse("no key is trusted; try: gates: {drill: {public_key: ...}} in the description, and migrator apply")
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
		return i, refuse("%s is of the migration %s, not of %s", path, report.Migration, name)
	case !report.Passed:
		return i, refuse("%s has failed: %v", path, report.Reasons)
	case report.Finished.After(e.Now.Add(maxClockAhead)):
		return i, refuse("%s was finished at %s, which is still to come", path, report.Finished.Format(time.RFC3339))
	}
	i.Run, i.Added, err = drills.New(store.Pool(), name).Import(ctx, report, digest, drill.EncodeKey(key))
	if err != nil {
		return i, err
	}
	i.Fits = report.Rehearsal == m.DrillHash()
	if !i.Fits {
		err = notYet("it opens no gate: what was rehearsed is not what is applied to %s (rehearsal %.12s, applied %.12s)", name, report.Rehearsal, m.DrillHash())
	}
	return i, err
}
