package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
)

const (
	leadAsk     = time.Second     // how often a standby asks, and a leader makes sure that it still leads
	leadPatience = 3 * time.Second // how long the leader's connection may take to answer
	leadRetry   = 15 * time.Second // longest wait between two attempts to connect
)

// errLost tells that the session which held the lock is gone.
var errLost = errors.New("the lead was lost")

// Lead runs lead in one process at a time of all that share the state database and
// name; the others wait as standbys, for as long as ctx. The context that lead gets
// ends when ctx does, or as soon as the connection that holds the lock is lost: a
// leader that is cut off stops after some 4 seconds, and PostgreSQL gives its lock to
// another after 25 seconds at the earliest. Lead then waits to lead again. A process that is
// killed is followed within 2 seconds; one that leaves by ctx, at once.
//
// It returns what lead returns by itself, or ctx's error. The lock is given back only after lead
// has returned. A leader that was frozen may find itself one of two for a moment:
// what it does must be guarded by its own compare-and-set.
func (s *Store) Lead(ctx context.Context, name string, lead func(ctx context.Context) error) error {
	wait := &backoff.ExponentialBackOff{
		InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: leadRetry,
	}
	wait.Reset()
	for {
		led, err := s.leadOnce(ctx, name, lead)
		if !errors.Is(err, errLost) || ctx.Err() != nil {
			return err
		}
		if led {
			wait.Reset()
		}
		if err := pause(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// leadOnce waits for the lock on one connection and leads until that connection is
// lost, which errLost says.
func (s *Store) leadOnce(ctx context.Context, name string, lead func(ctx context.Context) error) (led bool, err error) {
	conn, err := s.leadConn(ctx)
	if err != nil {
		return false, lost(ctx, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leadPatience)
		defer cancel()
		// The database may see the end of a connection later than the standby asks.
		_, _ = conn.Exec(closing, `SELECT pg_advisory_unlock_all()`)
		_ = conn.Close(closing)
	}()
	for {
		got, err := askToLead(ctx, conn, name)
		if err != nil {
			return false, lost(ctx, err)
		}
		if got {
			break
		}
		if err := pause(ctx, leadAsk); err != nil {
			return false, err
		}
	}
	leading, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- lead(leading) }()
	gone := s.untilLost(leading, conn, name, ended)
	stop()
	if gone == nil { // lead returned first, and untilLost took what it returned
		return true, <-ended
	}
	<-ended
	return true, lost(ctx, gone)
}
