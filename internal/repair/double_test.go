package repair_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// stores is legacy and target in memory, with the contract's rules and a hook
// before each call, in which a test runs other writers.
type stores struct {
	mu     sync.Mutex
	lsn    uint64
	era    uint32 // of legacy's rows
	fenced bool
	rows   map[record.Key]string
	equal  map[record.Key]record.Key // keys that legacy lacks and takes as equal to one it has
	target map[record.Key]store.Entry
	before func(call string)
	broken map[string]int // call: how often it fails yet
	ahead  time.Duration  // of the target's clock
	held   record.Key     // whose row another transaction keeps locked
}

var _ store.Fence = (*stores)(nil) // else a repairer would refuse to work on it

func newStores() *stores {
	return &stores{era: 1, lsn: 100, rows: map[record.Key]string{}, target: map[record.Key]store.Entry{}, broken: map[string]int{}}
}

func (s *stores) call(name string) error {
	if s.before != nil {
		s.before(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken[name] > 0 {
		s.broken[name]--
		return errors.New("broken")
	}
	return nil
}

func (s *stores) version() record.Version {
	s.lsn++
	return record.MakeVersion(s.era, 1, s.lsn)
}

// write is the application's: it commits and returns the version for the target.
func (s *stores) write(k record.Key, text string) store.Write {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[k] = text
	return store.Write{Key: k, Record: record.Record{record.TextValue(text)}, Version: s.version()}
}

func (s *stores) remove(k record.Key) store.Write {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, k)
	return store.Write{Key: k, Deleted: true, Version: s.version()}
}

func (s *stores) LookupLocked(_ context.Context, keys []record.Key) ([]store.Row, error) {
	if err := s.call("locked"); err != nil {
		return nil, err
	}
	if s.held != "" && slices.Contains(keys, s.held) {
		return nil, errors.New("lock timeout")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := make([]store.Row, len(keys))
	for i, k := range keys {
		text, ok := s.rows[k]
		rows[i] = store.Row{Key: k, Found: ok, Equal: s.equal[k]}
		if ok {
			rows[i].Version, rows[i].Record = s.version(), record.Record{record.TextValue(text)}
		}
	}
	return rows, nil
}

func (s *stores) FenceState(context.Context) (string, uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced {
		return "attempt", s.era + 1, nil
	}
	return "", s.era, nil
}

func (s *stores) RaiseFence(context.Context, string, time.Duration) (uint32, error) {
	return 0, errors.ErrUnsupported
}

func (s *stores) VoidFence(context.Context, string) (bool, error) { panic("not used") }

func (s *stores) LiftFence(context.Context, string, time.Duration) (uint32, error) {
	return 0, errors.ErrUnsupported
}

func (s *stores) FenceGaps(context.Context, string) (string, error) { panic("not used") }

func (s *stores) RestoreFence(context.Context, string, uint32, uint32, time.Duration) error {
	return errors.ErrUnsupported
}

func (s *stores) FirstEra(ctx context.Context) (uint32, error) {
	_, era, err := s.FenceState(ctx)
	return era, err
}

func (s *stores) RenewFence(context.Context, string) (uint32, error) {
	return 0, errors.ErrUnsupported
}

func (s *stores) SetAside(context.Context, store.ReplayRun, []store.Row, []store.Refusal) ([]store.Row, error) {
	return nil, errors.ErrUnsupported
}

func (s *stores) EndReplay(context.Context, store.ReplayRun, time.Duration) (uint32, error) {
	return 0, errors.ErrUnsupported
}

func (s *stores) BeginReplay(context.Context, string) (store.ReplayRun, error) {
	return store.ReplayRun{}, errors.ErrUnsupported
}

func (s *stores) Replay(context.Context, store.ReplayRun, []store.Row) (store.Replayed, error) {
	return store.Replayed{}, errors.ErrUnsupported
}

func (s *stores) Rehearse(context.Context, string, func() ([]store.Row, error)) ([]store.Refusal, error) {
	return nil, errors.ErrUnsupported
}

func (s *stores) Apply(_ context.Context, writes []store.Write) ([]store.Result, error) {
	if err := s.call("apply"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]store.Result, len(writes))
	for i, w := range writes {
		had := s.get(w.Key)
		owned := had.Presence != store.Unowned && had.Presence != store.WrongType
		outcome := store.Applied
		switch {
		case !w.NotAfter.IsZero() && time.Now().Add(s.ahead).After(w.NotAfter):
			outcome = store.Late
		case !owned && !w.Overwrite:
			outcome = store.Foreign
		case w.Only != nil && *w.Only != had.Version:
			outcome = store.Changed
		case w.Only == nil && !w.Version.NewerThan(had.Version):
			outcome = store.Older
		case !owned && w.Deleted:
			outcome = store.Foreign
			had.Version = w.Version
			s.target[w.Key] = had
		case w.Deleted:
			s.target[w.Key] = store.Entry{Key: w.Key, Presence: store.Tombstone, Version: w.Version}
		default:
			s.target[w.Key] = store.Entry{Key: w.Key, Presence: store.Live, Version: w.Version, Record: w.Record.Clone()}
		}
		results[i] = store.Result{Outcome: outcome, Version: s.get(w.Key).Version}
	}
	return results, nil
}

func (s *stores) get(k record.Key) store.Entry {
	if e, ok := s.target[k]; ok {
		return e
	}
	return store.Entry{Key: k, Presence: store.Absent}
}

func (s *stores) Get(_ context.Context, keys []record.Key) ([]store.Entry, error) {
	if err := s.call("get"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]store.Entry, len(keys))
	for i, k := range keys {
		entries[i] = s.get(k)
	}
	return entries, nil
}

func (s *stores) Scan(context.Context, func([]store.Entry) error) error {
	return errors.New("not used")
}

func (s *stores) Now(context.Context) (time.Time, error) {
	return time.Now().Add(s.ahead), s.call("now")
}
