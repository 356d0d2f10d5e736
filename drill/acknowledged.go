package drill

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// Line is one acknowledged write in the ledger of an operator's own load: one JSON
// document a line, the writes of one record in the order in which they were made.
type Line struct {
	Key     record.Key         `json:"key"` // the columns' canonical texts, joined by commas
	At      time.Time          `json:"at"`  // when it was acknowledged
	Deleted bool               `json:"deleted,omitempty"`
	Fields  map[string]*string `json:"fields,omitempty"` // by legacy's names; null: NULL
}

// Acknowledged is an operator's own load, which runs by itself and keeps a ledger of
// what was acknowledged, in a file or behind http://.
type Acknowledged struct {
	Source  string // path, or URL
	Legacy  Lookuper
	Schema  *record.Schema
	Compare *record.Comparer

	mu     sync.Mutex
	from   time.Time
	totals Totals
	fails  error
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// Lookuper reads records of legacy, which answers once reads are back.
type Lookuper interface {
	Lookup(ctx context.Context, keys []record.Key) ([]record.Row, error)
}

const (
	maxLedger      = 256 << 20 // bytes
	ledgerInterval = time.Second
	checkAgain     = 5 // looks at a record that somebody may just be writing
)

// Start implements Load: it waits for the first new line.
func (a *Acknowledged) Start(ctx context.Context) error {
	a.from = time.Now()
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	first := make(chan struct{})
	a.done.Go(func() { a.follow(working, first) })
	select {
	case <-first:
		return nil
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.fails != nil {
			return a.fails
		}
		return fmt.Errorf("%s tells of no write since %s", a.Source, a.from.UTC().Format(time.RFC3339))
	}
}

// follow counts the lines that are new.
func (a *Acknowledged) follow(ctx context.Context, first chan struct{}) {
	tick := time.NewTicker(ledgerInterval)
	defer tick.Stop()
	told := false
	for {
		lines, err := a.read(ctx)
		a.mu.Lock()
		if a.fails = err; err == nil {
			a.totals.Writes = int64(len(lines))
		}
		a.mu.Unlock()
		if err == nil && len(lines) > 0 && !told {
			told = true
			close(first)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// read returns the lines since the drill began.
func (a *Acknowledged) read(ctx context.Context) ([]Line, error) {
	from, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }()
	text, err := io.ReadAll(io.LimitReader(from, maxLedger))
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may just be written
	var lines []Line
	scan := bufio.NewScanner(bytes.NewReader(text))
	scan.Buffer(nil, 1<<20)
	for n := 1; scan.Scan(); n++ {
		if len(strings.TrimSpace(scan.Text())) == 0 {
			continue
		}
		var l Line
		d := json.NewDecoder(strings.NewReader(scan.Text()))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return nil, fmt.Errorf("%s:%d: %w; want one acknowledged write a line, such as {\"key\":\"42\",\"at\":\"2026-01-02T03:04:05Z\",\"fields\":{\"name\":\"x\"}}", a.Source, n, err)
		}
		for name := range l.Fields {
			if a.Schema.Index(name) < 0 {
				return nil, fmt.Errorf("%s:%d: the field %q is not moved", a.Source, n, name)
			}
		}
		if !l.At.Before(a.from) {
			lines = append(lines, l)
		}
	}
	return lines, scan.Err()
}

func (a *Acknowledged) open(ctx context.Context) (io.ReadCloser, error) {
	if !strings.HasPrefix(a.Source, "http://") && !strings.HasPrefix(a.Source, "https://") {
		return os.Open(a.Source)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Source, nil)
	if err != nil {
		return nil, errors.New("the URL of the load's ledger can't be read")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask for the load's ledger: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("ask for the load's ledger: %s", answer.Status)
	}
	return answer.Body, nil
}

// Stop implements Load: the load is the operator's, and goes on.
func (a *Acknowledged) Stop() {
	if a.stop != nil {
		a.stop()
		a.done.Wait()
	}
}

// Totals implements Load. Of reads such a ledger knows nothing.
func (a *Acknowledged) Totals() Totals {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.totals
	t.Kind = "the operator's, " + a.Source
	return t
}

// Check implements Load. The load may go on: a record that was written again since
// the ledger was read is looked at anew.
func (a *Acknowledged) Check(ctx context.Context) (Checked, bool, error) {
	c := Checked{Violations: []string{}}
	var open map[record.Key]bool
	for again := range checkAgain {
		lines, err := a.read(ctx)
		if err != nil {
			return c, false, err
		}
		last := map[record.Key]Line{}
		for _, l := range lines {
			if again == 0 || open[l.Key] {
				last[l.Key] = l
			}
		}
		if again == 0 {
			c.Records = int64(len(last))
		}
		c.Lost, c.Stale, c.Violations, open = 0, 0, []string{}, map[record.Key]bool{}
		for key, l := range last {
			finding, text, err := a.judge(ctx, l)
			if err != nil {
				return c, false, err
			}
			if finding == right {
				continue
			}
			open[key] = true
			count := &c.Lost
			if finding == stale {
				count = &c.Stale
			}
			if *count++; len(c.Violations) < maxViolations {
				c.Violations = append(c.Violations, text)
			}
		}
		if len(open) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return c, false, ctx.Err()
		case <-time.After(ledgerInterval):
		}
	}
	finding, _, err := a.judge(ctx, Line{Key: record.MakeKey("a record that nobody has written")})
	return c, finding == lost, err
}

// judge holds the last acknowledged write of a record against legacy, which answers.
func (a *Acknowledged) judge(ctx context.Context, l Line) (finding, string, error) {
	rows, err := a.Legacy.Lookup(ctx, []record.Key{l.Key})
	if err != nil {
		return right, "", err
	}
	row := rows[0]
	switch {
	case l.Deleted && row.Found:
		return stale, fmt.Sprintf("%q is there, but its deletion was acknowledged at %s", string(l.Key), l.At.Format(time.RFC3339Nano)), nil
	case l.Deleted:
		return right, "", nil
	case !row.Found:
		return lost, fmt.Sprintf("%q is not there, but a write of it was acknowledged at %s", string(l.Key), l.At.Format(time.RFC3339Nano)), nil
	}
	want := row.Record.Clone()
	for name, text := range l.Fields {
		v := record.NullValue
		if text != nil {
			v = record.TextValue(*text)
		}
		want[a.Schema.Index(name)] = v
	}
	if differ := a.Compare.Compare(row.Record, want); len(differ) > 0 {
		return stale, fmt.Sprintf("%q has another %s than was acknowledged at %s", string(l.Key), differ[0].Path, l.At.Format(time.RFC3339Nano)), nil
	}
	return right, "", nil
}
