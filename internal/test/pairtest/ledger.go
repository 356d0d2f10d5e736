package pairtest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Backfills keeps one backfill in a file, so that it survives its process.
type Backfills struct {
	Path    string
	OnSave  func(backfill.Progress) error // called before a save; its error is returned instead
	mu      sync.Mutex
	running bool
}

// Begin implements backfill.Ledger.
func (b *Backfills) Begin(context.Context) (backfill.Progress, func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running {
		return backfill.Progress{}, nil, backfill.ErrRunning
	}
	p, err := b.Load()
	if err != nil {
		return p, nil, err
	}
	if !p.Finished.IsZero() || p.ID == 0 {
		p = backfill.Progress{ID: p.ID + 1, Epoch: 2}
	}
	b.running = true
	return p, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running = false
	}, nil
}

// Load reads the last saved progress; zero: none.
func (b *Backfills) Load() (p backfill.Progress, err error) {
	data, err := os.ReadFile(b.Path)
	if os.IsNotExist(err) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if p.Chunks == nil {
		p.Chunks = []store.Chunk{}
	}
	return p, err
}

// Save implements backfill.Ledger.
func (b *Backfills) Save(_ context.Context, p backfill.Progress) error {
	if b.OnSave != nil {
		if err := b.OnSave(p); err != nil {
			return err
		}
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(b.Path), "next")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, b.Path)
}

// Reconciles keeps runs and the journal in memory.
type Reconciles struct {
	mu      sync.Mutex
	running bool
	sampled int
	Runs    []reconcile.Run
	Found   []reconcile.Finding
	of      map[record.Key]int64 // the last run that found it
	journal map[record.Key]reconcile.JournaledKey
}

// Begin implements reconcile.Ledger.
func (r *Reconciles) Begin(_ context.Context, run reconcile.Run) (reconcile.Run, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		return run, nil, reconcile.ErrRunning
	}
	r.running = true
	run.ID, run.Epoch, run.ConfigHash = int64(len(r.Runs)+1), 2, "hash"
	if !run.Full {
		run.Slice = r.sampled % run.Slices
		r.sampled++
	}
	r.Runs = append(r.Runs, run)
	return run, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running = false
	}, nil
}

// Save implements reconcile.Ledger.
func (r *Reconciles) Save(ctx context.Context, run reconcile.Run, found []reconcile.Finding, _ ...int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Runs[run.ID-1] = run
	for _, f := range found {
		r.Found = slices.DeleteFunc(r.Found, func(old reconcile.Finding) bool {
			return f.RawKey == "" && old.RawKey == "" && old.Key == f.Key && r.of[f.Key] == run.ID
		})
		if r.of == nil {
			r.of = map[record.Key]int64{}
		}
		r.Found, r.of[f.Key] = append(r.Found, f), run.ID
	}
	return nil
}

// AddJournaled journals a key.
func (r *Reconciles) AddJournaled(key record.Key, v record.Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.journal == nil {
		r.journal = map[record.Key]reconcile.JournaledKey{}
	}
	j := r.journal[key]
	r.journal[key] = reconcile.JournaledKey{Key: key, Version: j.Version.Max(v), Changes: j.Changes + 1}
}

// JournaledKeys returns the number of journaled keys.
func (r *Reconciles) JournaledKeys() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.journal)
}

// Journal implements reconcile.Ledger.
func (r *Reconciles) Journal(_ context.Context, after record.Key, limit int) ([]reconcile.JournaledKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var page []reconcile.JournaledKey
	for k, j := range r.journal {
		if k > after {
			page = append(page, j)
		}
	}
	slices.SortFunc(page, func(a, b reconcile.JournaledKey) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return page[:min(limit, len(page))], nil
}

// JournalLength implements reconcile.Ledger.
func (r *Reconciles) JournalLength(context.Context) (int64, error) {
	return int64(r.JournaledKeys()), nil
}

// Clear implements reconcile.Ledger.
func (r *Reconciles) Clear(_ context.Context, entries []reconcile.JournaledKey) (cleared int64, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		if r.journal[e.Key].Changes == e.Changes {
			delete(r.journal, e.Key)
			cleared++
		}
	}
	return cleared, nil
}
