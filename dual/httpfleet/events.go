package httpfleet

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	// silentFor is how long a stream may be silent before it counts as broken: a daemon sends a comment each 5 s.
	silentFor      = 20 * time.Second
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 15 * time.Second // longest mean wait between two attempts
	mostLine       = 4 << 10
)

// Notifications implements dual.Notifier: it follows a daemon's stream of events, and goes to the next daemon whenever the
// stream ends. After each connect it notifies of the present epoch. It returns ctx's error.
func (f *Fleet) Notifications(ctx context.Context, notify func(epoch int64)) error {
	wait, at := reconnectFirst, int(f.at.Load())
	for {
		if f.follow(ctx, f.options.URLs[at%len(f.options.URLs)], notify) {
			wait = reconnectFirst
		}
		at++
		// From half to one and a half times the wait: clients that were disconnected together do not reconnect together.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		wait = min(2*wait, reconnectMost)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// follow reports whether the stream had an event.
func (f *Fleet) follow(ctx context.Context, root string, notify func(epoch int64)) (had bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(silentFor, cancel)
	defer silence.Stop()
	answer, err := f.send(ctx, root, http.MethodGet, "/events", nil)
	if err != nil {
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		_, _ = io.CopyN(io.Discard, answer.Body, mostLine)
		return false
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, mostLine)
	for lines.Scan() {
		silence.Reset(silentFor)
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var event struct{ Epoch int64 }
		if json.Unmarshal([]byte(data), &event) == nil && event.Epoch > 0 {
			had = true
			notify(event.Epoch)
		}
	}
	return had
}
