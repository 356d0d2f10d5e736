package capture

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/stranglerfig/migrator/internal/throttle"
)

// Status is what capture does now.
type Status struct {
	Progress  Progress
	Idle      pglogrepl.LSN // up to where the server has nothing for the slot that the target lacks
	LagBytes  int64         // of log that is not applied yet
	Lag       time.Duration // age of the newest commit that was applied, while there are later ones
	Waiting   int64         // rows that were read and are not applied
	Applied   int64         // rows that were applied since the start
	HeldBytes int64         // of log that the server keeps for the slot
	SafeBytes int64         // that it may still write before it gives the slot up; -1: no limit
	MaxBytes  int64         // of HeldBytes, beyond which Run gives the slot up; 0: no limit
	Locked    int64         // rows that had to be read under their locks
	Refused   int64         // records that the target can't store
	Skipped   int64         // changes that are not for the target: before the first barrier, and behind a fence
	Foreign   int64         // changes of other tables
	LastError string        // of a target that fails; "" once it has recovered. It has no value of a record
	ErrorKey  string        // hash of the key that LastError is about, under a secret of the migration; "": of none
	Throttle  throttle.Status
}

// Has reports whether the target has every change that legacy had committed before the position. It has not before the
// first barrier, nor behind a fence, nor while a sweep is due.
func (s Status) Has(before pglogrepl.LSN) bool {
	p := s.Progress
	return p.Era > 0 && p.Fence == "" && len(p.Sweeps) == 0 && max(p.Resume, s.Idle) >= before
}

// meter counts.
type meter struct {
	secret string // of the migration's markers

	waiting, applied, locked, refused, skipped, foreign atomic.Int64
	end                                                 atomic.Uint64 // of the server's log
	idle                                                atomic.Uint64 // up to where it has nothing for this slot

	mu    sync.Mutex
	p     Progress // that is saved
	slot  slot
	limit int64 // of what the slot holds
	err   string
	key   string // see Status.ErrorKey
}

func (m *meter) server(end pglogrepl.LSN) {
	for {
		was := m.end.Load()
		if uint64(end) <= was || m.end.CompareAndSwap(was, uint64(end)) {
			return
		}
	}
}

func (m *meter) read(t *transaction) { m.waiting.Add(t.changes) }

func (m *meter) saved() pglogrepl.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.p.Resume
}

func (m *meter) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *meter) failed(err error) {
	m.set(func() {
		m.err, m.key = "", ""
		if err != nil {
			m.err = err.Error()
		}
		if of, ok := errors.AsType[*keyError](err); ok {
			sum := hmac.New(sha256.New, []byte(m.secret))
			_, _ = sum.Write([]byte(of.key))
			m.key = hex.EncodeToString(sum.Sum(nil)[:8])
		}
	})
}

// status is the present one. now is the time of this machine, which is compared with legacy's.
func (m *meter) status(now time.Time) Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Progress: m.p, Idle: pglogrepl.LSN(m.idle.Load()), Waiting: m.waiting.Load(), Applied: m.applied.Load(), HeldBytes: m.slot.held, SafeBytes: m.slot.safe, MaxBytes: m.limit,
		Locked: m.locked.Load(), Refused: m.refused.Load(), Skipped: m.skipped.Load(), Foreign: m.foreign.Load(), LastError: m.err, ErrorKey: m.key,
	}
	s.LagBytes = max(0, int64(m.end.Load())-int64(max(m.p.Resume, s.Idle)))
	if s.LagBytes > 0 && !m.p.Commit.IsZero() {
		s.Lag = max(0, now.Sub(m.p.Commit))
	}
	return s
}
