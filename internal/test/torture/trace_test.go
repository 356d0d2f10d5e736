//go:build unix

package torture

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// trace is an instance's record of the routes that its operations run under: a line when an
// operation has pinned its route, a line before it releases it. Each line is one write to a
// file, which survives a kill -9. Times are of the machine's wall clock, which all processes
// share.
type trace struct {
	file *os.File
	last atomic.Int64
}

func newTrace(path string) (*trace, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &trace{file: f}, err
}

func (t *trace) began(ctx context.Context, o dual.Operation) (context.Context, func(dual.Result)) {
	if o.Store != "" || o.Kind == dual.KindRollback { // it pins no route
		return ctx, nil
	}
	id := t.last.Add(1)
	_, _ = fmt.Fprintf(t.file, "b %d %d %d %s %d %t %t\n", id, time.Now().UnixNano(), o.Route.Epoch, o.Route.Phase, o.Route.Percent, o.Kind == telemetry.Write, o.Lapsed)
	return ctx, func(dual.Result) { _, _ = fmt.Fprintf(t.file, "e %d %d\n", id, time.Now().UnixNano()) }
}

// stay is one operation's time on a route. It is within the time for which the instance pinned
// the route.
type stay struct {
	instance string
	route    phases.Route
	write    bool
	lapsed   bool          // the lease had lapsed when it began
	cut      bool          // it ended with its process
	from, to time.Duration // since the run began
}

// readTrace returns an ended process's operations; those without an end were cut at died.
func readTrace(path, instance string, began, died time.Time) ([]*stay, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if at := bytes.LastIndexByte(text, '\n'); at+1 < len(text) {
		text = text[:at+1] // killed in the middle of a line
	}
	var stays []*stay
	open := map[int64]*stay{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		var id, nanos int64
		s := &stay{instance: instance}
		switch line[0] {
		case 'b':
			_, err = fmt.Sscanf(line, "b %d %d %d %s %d %t %t", &id, &nanos, &s.route.Epoch, &s.route.Phase, &s.route.Percent, &s.write, &s.lapsed)
			s.from = time.Unix(0, nanos).Sub(began)
			open[id] = s
			stays = append(stays, s)
		default:
			if _, err = fmt.Sscanf(line, "e %d %d", &id, &nanos); err == nil && open[id] == nil {
				err = fmt.Errorf("an end without a beginning")
			}
			if err == nil {
				open[id].to = time.Unix(0, nanos).Sub(began)
				delete(open, id)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
	}
	for _, s := range open {
		s.cut, s.to = true, max(s.from, died.Sub(began))
	}
	return stays, nil
}
