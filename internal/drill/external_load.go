package drill

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Line is one write in the ledger of an operator's own load: one JSON
// document a line, the writes of one record in the order in which they were made.
type Line struct {
	Key     record.Key         `json:"key"` // the columns' canonical texts, joined by commas
	At      time.Time          `json:"at"`  // when it was acknowledged
	Deleted bool               `json:"deleted,omitempty"`
	Unknown bool               `json:"unknown,omitempty"` // the write's outcome is unknown to the load
	Fields  map[string]*string `json:"fields,omitempty"`  // by legacy's names; null: NULL
}

// ExternalLoad is an operator's own load, which runs by itself and writes a ledger of
// acknowledged writes, to a file or behind http://.
type ExternalLoad struct {
	Source  string // path, or URL
	Legacy  Reader
	Schema  *record.Schema
	Compare *record.Comparer
	Every   time.Duration // how often the ledger is read; 0: 1 s

	mu     sync.Mutex
	from   time.Time
	totals Totals
	fails  error
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// Reader reads records of legacy, which answers reads after the rollback.
type Reader interface {
	Lookup(ctx context.Context, keys []record.Key) ([]store.Row, error)
}

const (
	maxLedger  = 256 << 20 // bytes
	checkAgain = 6         // reads of the ledger, for lines that are still to be written
)

// Start implements Load: it waits for the first new line.
func (a *ExternalLoad) Start(ctx context.Context) error {
	a.from = time.Now()
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	first, unreadable := make(chan struct{}), make(chan struct{}, 1)
	a.done.Go(func() { a.follow(working, first, unreadable) })
	select {
	case <-first:
		return nil
	case <-unreadable:
		return a.Err()
	case <-ctx.Done():
		if err := a.Err(); err != nil {
			return err
		}
		return fmt.Errorf("%s has no write since %s", a.Source, a.from.UTC().Format(time.RFC3339))
	}
}

func (a *ExternalLoad) every() time.Duration {
	if a.Every > 0 {
		return a.Every
	}
	return time.Second
}

// Err is why the ledger could not be read last; nil: it could.
func (a *ExternalLoad) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fails
}

// lineError is a line that is no write, which no later one can make right.
type lineError struct{ error }

func (e lineError) Unwrap() error { return e.error }

// follow counts new lines.
func (a *ExternalLoad) follow(ctx context.Context, first, unreadable chan struct{}) {
	tick := time.NewTicker(a.every())
	defer tick.Stop()
	began := false
	for {
		lines, err := a.read(ctx)
		a.mu.Lock()
		if ctx.Err() == nil {
			a.fails = err
		}
		if err == nil {
			a.totals.Writes, a.totals.Failed = 0, 0
			for _, l := range lines {
				if l.Unknown {
					a.totals.Failed++
				} else {
					a.totals.Writes++
				}
			}
		}
		a.mu.Unlock()
		if errors.As(err, new(lineError)) {
			select {
			case unreadable <- struct{}{}:
			default:
			}
		}
		if err == nil && len(lines) > 0 && !began {
			began = true
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
func (a *ExternalLoad) read(ctx context.Context) ([]Line, error) {
	from, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }()
	text, err := io.ReadAll(io.LimitReader(from, maxLedger))
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may be incomplete
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
			return nil, lineError{fmt.Errorf("%s:%d: %w; want one acknowledged write a line, such as {\"key\":\"42\",\"at\":\"2026-01-02T03:04:05Z\",\"fields\":{\"name\":\"x\"}}", a.Source, n, err)}
		}
		for name := range l.Fields {
			if a.Schema.Index(name) < 0 {
				return nil, lineError{fmt.Errorf("%s:%d: the field %q is not migrated", a.Source, n, name)}
			}
		}
		if !l.At.Before(a.from) {
			lines = append(lines, l)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, lineError{fmt.Errorf("%s: a line can't be read: %w", a.Source, err)}
	}
	return lines, nil
}

func (a *ExternalLoad) open(ctx context.Context) (io.ReadCloser, error) {
	if !strings.HasPrefix(a.Source, "http://") && !strings.HasPrefix(a.Source, "https://") {
		return os.Open(a.Source)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Source, nil)
	if err != nil {
		return nil, errors.New("the URL of the load's ledger is not valid")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("read the load's ledger: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("read the load's ledger: %s", answer.Status)
	}
	return answer.Body, nil
}

// Stop implements Load. It stops reading the ledger; the operator's load continues.
func (a *ExternalLoad) Stop() {
	if a.stop != nil {
		a.stop()
		a.done.Wait()
	}
}

// Totals implements Load. Such a ledger has no reads.
func (a *ExternalLoad) Totals() Totals {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.totals
	t.Kind = "the operator's, " + a.Source
	return t
}

// Check implements Load. The load may continue meanwhile: a record must be as the last
// acknowledged write before it was read left it, or as a later write did, whose line may
// still be missing in the ledger.
func (a *ExternalLoad) Check(ctx context.Context) (Checked, bool, error) {
	c := Checked{Violations: []string{}}
	lines, err := a.read(ctx)
	if err != nil {
		return c, false, err
	}
	known := byKey(lines)
	rows, err := a.Legacy.Lookup(ctx, slices.Collect(maps.Keys(known)))
	if err != nil {
		return c, false, err
	}
	c.Records, c.Stale = int64(len(rows)), new(int64)
	var wrong []violation
	for again := range checkAgain {
		if wrong = a.violations(rows, known, byKey(lines)); len(wrong) == 0 {
			break
		}
		if again > 0 {
			select {
			case <-ctx.Done():
				return c, false, ctx.Err()
			case <-time.After(a.every()):
			}
		}
		if lines, err = a.read(ctx); err != nil {
			return c, false, err
		}
	}
	for _, v := range wrong {
		count := c.Stale
		if v.result == lost {
			count = &c.Lost
		}
		if *count++; len(c.Violations) < maxViolations {
			c.Violations = append(c.Violations, v.text)
		}
	}
	controlKey := record.MakeKey("a record that was never written")
	control := map[record.Key][]Line{controlKey: {{Key: controlKey}}}
	rows, err = a.Legacy.Lookup(ctx, []record.Key{controlKey})
	if err != nil {
		return c, false, err
	}
	found := a.violations(rows, control, control)
	return c, len(found) == 1 && found[0].result == lost, nil
}

func byKey(lines []Line) map[record.Key][]Line {
	by := map[record.Key][]Line{}
	for _, l := range lines {
		by[l.Key] = append(by[l.Key], l)
	}
	return by
}

// violation is one record that is lost or stale.
type violation struct {
	result readResult
	text   string
}

// violations returns the records that match neither their last write in known, nor one of
// the writes after it in later.
func (a *ExternalLoad) violations(rows []store.Row, known, later map[record.Key][]Line) (wrong []violation) {
	for _, row := range rows {
		may := later[row.Key][len(known[row.Key])-1:]
		if slices.ContainsFunc(may, func(l Line) bool { return l.Unknown || a.shows(row, l) }) {
			continue
		}
		v, at := violation{result: stale}, may[0].At.Format(time.RFC3339Nano)
		switch {
		case !row.Found:
			v = violation{lost, fmt.Sprintf("%q is not there, but a write of it was acknowledged at %s", string(row.Key), at)}
		case may[0].Deleted:
			v.text = fmt.Sprintf("%q is there, but its deletion was acknowledged at %s", string(row.Key), at)
		default:
			v.text = fmt.Sprintf("%q shows another state than was acknowledged at %s", string(row.Key), at)
		}
		wrong = append(wrong, v)
	}
	return wrong
}

// shows reports whether the record is as the write left it, in the fields of its line.
func (a *ExternalLoad) shows(row store.Row, l Line) bool {
	if !row.Found || l.Deleted {
		return !row.Found && l.Deleted
	}
	want := row.Record.Clone()
	for name, text := range l.Fields {
		v := record.NullValue
		if text != nil {
			v = record.TextValue(*text)
		}
		want[a.Schema.Index(name)] = v
	}
	return a.Compare.Equal(row.Record, want)
}
