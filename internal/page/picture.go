package page

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/runbook"
)

// Picture is one migration as of one moment: all that its page shows.
type Picture struct {
	app.Status

	Gates       []Gate
	Triggers    []app.TriggerView
	Leases      []phases.Lease
	*background // nil: it was never read in full

	read     time.Time // by this process's clock
	watched  bool      // it was read in full
	settings phases.Settings
	rendered [2]rendering // without keys, and with
}

// Gate is a gate before the next step, or the next phase.
type Gate struct {
	app.GateView
	Since time.Time // since when it is closed; zero: it is open
}

// background is the part of a picture that is read less often: it is long, or changes slowly.
type background struct {
	at       time.Time // when it was read, by this process's clock
	cursor   string    // of what it was read for: another one makes it old at once
	History  []state.Entry
	Epochs   []state.Epoch // newest first
	Journal  []reconcile.JournaledKey
	Runs     []reconcile.Run // newest first
	Found    *reconcile.Run  // the newest run with findings
	Findings []reconcile.Finding
	Backfill *backfill.Progress
	Runbooks []runbooks.Run
	Records  []runbook.Record // of the newest runbook run
	Drills   []drills.Run
	Coverage reconcile.Coverage
	Series   app.Series
	Bounds   []phases.Evaluation // of the gate on mismatches, oldest first
}

const (
	historyShown  = 100
	epochsShown   = 100
	runsShown     = 8
	findingsShown = 50
	journalShown  = 20
	// backgroundEvery is how old a background may be.
	backgroundEvery = 5 * time.Second
)

// readPicture reads a migration. before is its last picture: what changes slowly is taken from it while it is young.
func readPicture(ctx context.Context, store *state.Store, name string, before *Picture, watched bool) (*Picture, error) {
	s, m, err := app.ReadStatusApplied(ctx, store, name)
	if err != nil {
		return nil, err
	}
	p := &Picture{Status: s, settings: m.Settings(), watched: watched, read: time.Now()}
	if before != nil {
		p.background = before.background
	}
	if !watched {
		return p, nil
	}
	if p.Gates, err = gates(ctx, store, p); err != nil {
		return nil, err
	}
	if p.Triggers, err = app.ReadTriggerViews(ctx, store, m); err != nil {
		return nil, err
	}
	if p.Leases, err = store.Leases(ctx, name); err != nil {
		return nil, err
	}
	cursor := s.Status.Route.String() + s.Status.LastCause + s.Status.LastReason + s.Status.LastActor
	if b := p.background; b == nil || b.cursor != cursor || time.Since(b.at) >= backgroundEvery {
		if p.background, err = readBackground(ctx, store, m, s, b); err != nil {
			return nil, err
		}
		p.cursor = cursor
	}
	return p, nil
}

// gates are those before the next step, and those of the next phase.
func gates(ctx context.Context, store *state.Store, p *Picture) ([]Gate, error) {
	if p.Next == nil {
		return nil, nil
	}
	var all []Gate
	for _, v := range app.GatesAhead(p.settings, p.Snapshot, p.Next.To) {
		g := Gate{GateView: v}
		if !g.Open() {
			var err error
			if g.Since, err = store.ClosedSince(ctx, p.Status.Status.Migration, g.Gate, p.Status.Status.RouteSince); err != nil {
				return nil, err
			}
		}
		all = append(all, g)
	}
	slices.SortStableFunc(all, func(a, b Gate) int { return closedFirst(a) - closedFirst(b) })
	return all, nil
}

func closedFirst(g Gate) int {
	if g.Open() {
		return 1
	}
	return 0
}

func readBackground(ctx context.Context, store *state.Store, m *migration.Config, s app.Status, before *background) (b *background, err error) {
	name, pool := s.Status.Migration, store.Pool()
	b = &background{at: time.Now()}
	if b.History, err = store.History(ctx, name, historyShown); err != nil {
		return nil, err
	}
	if b.Epochs, err = store.Epochs(ctx, name, epochsShown); err != nil {
		return nil, err
	}
	runs := reconciles.New(pool, name)
	if b.Journal, err = runs.Journal(ctx, "", journalShown); err != nil {
		return nil, err
	}
	if b.Runs, err = runs.List(ctx, runsShown); err != nil {
		return nil, err
	}
	for i := range b.Runs {
		if b.Runs[i].Differences > 0 {
			b.Found = &b.Runs[i]
			if b.Findings, err = runs.Findings(ctx, b.Found.ID, findingsShown); err != nil {
				return nil, err
			}
			break
		}
	}
	if b.Backfill, err = backfills.New(pool, name).Latest(ctx); err != nil {
		return nil, err
	}
	if b.Drills, err = drills.New(pool, name).List(ctx, 5); err != nil {
		return nil, err
	}
	books := runbooks.New(pool, name)
	if b.Runbooks, err = books.List(ctx, 5); err != nil {
		return nil, err
	}
	if len(b.Runbooks) > 0 {
		if b.Records, err = books.Records(ctx, b.Runbooks[0].ID); err != nil {
			return nil, err
		}
	}
	if b.Coverage, err = app.Coverage(ctx, store, m); err != nil {
		return nil, err
	}
	if b.Bounds, err = app.ReadBounds(ctx, store, name, phases.GateKind, phases.GateConsistency, s.Snapshot.Now); err != nil {
		return nil, err
	}
	var seen app.Series
	if before != nil {
		seen = before.Series
	}
	b.Series, err = app.ReadSeries(ctx, store, s, b.Coverage, seen)
	return b, err
}

// rendering is a picture's fragments, rendered once for all pages.
type rendering struct {
	once  sync.Once
	parts []part
	err   error
}

// part is one fragment of a page.
type part struct {
	ID   string `json:"id"`
	HTML string `json:"html"`

	event []byte // that brings it to a page
}

func newPart(id, html string) (part, error) {
	one := part{ID: id, HTML: strings.TrimSpace(html)}
	var event bytes.Buffer
	event.WriteString("data: ")
	e := json.NewEncoder(&event)
	e.SetEscapeHTML(false) // it is HTML, and no script is around it
	err := e.Encode(one)
	event.WriteString("\n")
	one.event = event.Bytes()
	return one, err
}
