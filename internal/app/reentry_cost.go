package app

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// ReentryCost is what it costs to begin again where changes are lost to capture: a backfill, then a full reconcile. All
// of it is an estimate from the last ones.
type ReentryCost struct {
	Rows    int64           `json:"rows"`              // to copy
	Rate    float64         `json:"rate,omitempty"`    // rows per second; 0: not known
	By      string          `json:"by,omitempty"`      // what Rate is of: the setting, or how fast the last backfill was
	Copy    phases.Duration `json:"copy,omitempty"`    // how long the backfill takes; 0: not known
	Compare phases.Duration `json:"compare,omitempty"` // how long the reconcile takes; 0: not known
}

// What a rate is of.
const (
	rateOfFile = "backfill.rate"
	rateOfLast = "the last backfill"
)

// Text describes the cost for a person.
func (r ReentryCost) Text() string {
	text := "a new slot copies about " + humanize.Counted(r.Rows, "row")
	if r.Copy > 0 {
		text += fmt.Sprintf(" in about %s, at %s rows/s (%s)", humanize.Span(time.Duration(r.Copy)), humanize.Count(int64(r.Rate)), r.By)
	}
	text += ", then a full reconcile"
	if r.Compare > 0 {
		text += " of about " + humanize.Span(time.Duration(r.Compare))
	}
	return text
}

// readReentryCost reads it; nil where changes are not captured, or no backfill has begun.
func readReentryCost(ctx context.Context, st *state.Store, m *migration.Config, e phases.Snapshot) (*ReentryCost, error) {
	if !m.Capture.Mode.On() || !e.Status.Route.Phase.Captured() || e.Backfill == nil {
		return nil, nil
	}
	b, err := backfills.New(st.Pool(), m.Name).Latest(ctx)
	if err != nil || b == nil {
		return nil, err
	}
	cost := reentryCost(m.Backfill.Rate, *b, e.FullReconcile)
	return &cost, nil
}

// reentryCost estimates it from the newest backfill and full reconcile run. rate is the limit; 0: there is none.
func reentryCost(rate int, b backfill.Progress, full *phases.ReconcileResult) ReentryCost {
	r := ReentryCost{Rows: b.Rows, Rate: float64(rate)}
	if b.Finished.IsZero() {
		r.Rows = 0
		for _, chunk := range b.Chunks {
			r.Rows += chunk.Rows
		}
	}
	if full != nil && full.Began.After(b.Began) {
		r.Rows = full.Checked
	}
	if r.Rate > 0 {
		r.By = rateOfFile
	}
	// What passes before the first row is read, behind the barrier, takes as long again.
	wait := time.Duration(0)
	if b.Opens.After(b.Began) && b.Opens.Before(b.Finished) {
		wait = b.Opens.Sub(b.Began)
	}
	// The rate is a limit: a backfill that was slower will be again.
	if spent := (b.Finished.Sub(b.Began) - wait).Seconds() - float64(b.Held); !b.Finished.IsZero() && spent > 0 && b.Rows > 0 {
		if had := float64(b.Rows) / spent; r.Rate == 0 || had < r.Rate {
			r.Rate, r.By = had, rateOfLast
		}
	}
	if r.Rate > 0 {
		r.Copy = inSeconds(wait + time.Duration(float64(r.Rows)/r.Rate*float64(time.Second)))
	}
	if full != nil && full.Checked > 0 {
		r.Compare = inSeconds(time.Duration(float64(full.Finished.Sub(full.Began)) * float64(r.Rows) / float64(full.Checked)))
	}
	return r
}

func inSeconds(d time.Duration) phases.Duration {
	return phases.Duration(max(time.Second, d.Round(time.Second)))
}
