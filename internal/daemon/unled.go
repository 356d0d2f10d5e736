package daemon

import (
	"context"
	"log/slog"
	"time"
)

const (
	// unledFor is how long a migration may be without a leader: a standby takes over within seconds.
	unledFor = time.Minute
	// ledEvery is how often a daemon looks whether some process leads.
	ledEvery = 10 * time.Second
)

// watchLeader looks whether some process leads the migration, this one or another: where none does, nothing else
// could raise the alarm.
func (m *Migration) watchLeader(ctx context.Context, isLed func(context.Context) (bool, error), log *slog.Logger) error {
	led := time.Now()
	tick := time.NewTicker(ledEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		there, err := isLed(ctx)
		if err != nil {
			continue // the state's outage is an alarm of its own
		}
		switch {
		case there:
			led = time.Now()
			if m.unled.CompareAndSwap(true, false) {
				log.Info("some daemon leads again")
			}
		case time.Since(led) > unledFor && m.unled.CompareAndSwap(false, true):
			log.Error("nothing leads the migration: nothing is repaired, and no trigger rolls back",
				"hint", "see why this daemon does not lead; another session may hold its lock")
		}
	}
}
