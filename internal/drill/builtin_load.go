package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Legacy is the part of a legacy store that the load reads and writes.
type Legacy interface {
	store.Toucher
	Lookup(ctx context.Context, keys []record.Key) ([]store.Row, error)
}

// BuiltInLoad is a load on the migration's own records: one more instance of the fleet,
// which reads and writes them as an application does. Without a Column its writes change
// nothing, and acknowledged writes are identified by their versions. With one, each write
// stores a token there, and the original texts are restored at the end.
type BuiltInLoad struct {
	Fleet   dual.Fleet
	Legacy  Legacy
	Target  store.TargetRecords
	Schema  *record.Schema
	Moves   string // migration.Config.Moves
	Compare *record.Comparer
	Writing dual.Writing
	Keys    []record.Key // that are read and written; the application should not delete them
	Column  string       // of kind text; "": none
	Rate    float64      // operations per second, a quarter of them writes
	Log     *slog.Logger

	series
	ledger    *ledger
	instance  *dual.Instance
	reader    *dual.Reader[record.Key, value]
	writer    *dual.Writer[record.Key, value]
	original  map[record.Key]record.Value
	corrupted [2]atomic.Int64
	end       context.CancelFunc // of the clients
	busy      sync.WaitGroup
	leave     context.CancelFunc // of the instance
	left      chan error
}

const (
	clients = 8
	// The load's telemetry is reported often: it may be all that triggers get.
	loadReportEvery = time.Second
)

// Start implements Load.
func (b *BuiltInLoad) Start(ctx context.Context) error {
	if len(b.Keys) == 0 {
		return errors.New("there are no records to read and write")
	}
	column := -1
	if b.Column != "" {
		if column = b.Schema.Index(b.Column); column < 0 || b.Schema.Fields[column].Kind != record.Text {
			return fmt.Errorf("the column %q is not a migrated column of kind text", b.Column)
		}
	}
	b.ledger = newLedger(column, fmt.Sprintf("%08x", rand.Uint32()))
	if err := b.keepOriginals(ctx, column); err != nil {
		return err
	}
	if err := b.join(ctx); err != nil {
		return err
	}
	working, end := context.WithCancel(context.WithoutCancel(ctx))
	b.end = end
	b.begin()
	limiter := rate.NewLimiter(rate.Limit(b.Rate), clients)
	for n := range clients {
		b.busy.Go(func() { b.serveClient(working, limiter, n) })
	}
	return nil
}

func (b *BuiltInLoad) keepOriginals(ctx context.Context, column int) error {
	rows, err := b.Legacy.Lookup(ctx, b.Keys)
	if err != nil {
		return err
	}
	b.original = map[record.Key]record.Value{}
	b.Keys = b.Keys[:0:0]
	for _, row := range rows {
		if !row.Found {
			continue
		}
		b.Keys = append(b.Keys, row.Key)
		if column >= 0 {
			b.original[row.Key] = row.Record[column]
		}
	}
	if len(b.Keys) == 0 {
		return errors.New("none of the load's records is in legacy")
	}
	return nil
}

// join makes the load an instance of the fleet.
func (b *BuiltInLoad) join(ctx context.Context) (err error) {
	marks, _ := b.Target.(store.Marker)
	b.instance, err = dual.Join(ctx, dual.Config{
		Fleet: b.Fleet, Marks: marks, Identity: dual.Identity{About: loadAbout}, Logger: b.Log,
		Moves: b.Moves, Writing: b.Writing, BreakerPause: time.Second, ReportEvery: loadReportEvery, Faults: true,
	})
	if err != nil {
		return err
	}
	ctx, b.leave = context.WithCancel(context.WithoutCancel(ctx))
	b.left = make(chan error, 1)
	go func() { b.left <- b.instance.Run(ctx) }()
	b.reader, err = dual.NewReader(dual.ReaderConfig[record.Key, value]{
		Instance: b.instance, Legacy: b.lookup, Target: target{b.Target}, Key: func(k record.Key) record.Key { return k },
		Compare:       func(l, t value) []record.Difference { return b.Compare.Compare(l.record, t.record) },
		TargetTimeout: time.Second, ShadowPercent: phases.All, MaxShadows: 2 * clients,
	})
	if err != nil {
		return err
	}
	b.writer, err = dual.NewWriter(dual.WriterConfig[record.Key, value]{
		Instance: b.instance, Legacy: b.lookup, Target: target{b.Target}, Key: func(k record.Key) record.Key { return k },
		Uncertain: func(error) bool { return true },
	})
	return err
}

func (b *BuiltInLoad) lookup(ctx context.Context, key record.Key) (v value, found bool, err error) {
	rows, err := b.Legacy.Lookup(ctx, []record.Key{key})
	if err != nil {
		return v, false, err
	}
	return value{record: rows[0].Record}, rows[0].Found, nil
}

// serveClient is one client. It reads all records, and writes those that no other client
// writes.
func (b *BuiltInLoad) serveClient(ctx context.Context, limiter *rate.Limiter, n int) {
	own := make([]record.Key, 0, len(b.Keys)/clients+1)
	for i := n; i < len(b.Keys); i += clients {
		own = append(own, b.Keys[i])
	}
	for limiter.Wait(ctx) == nil {
		// An operation that has begun is not canceled: its outcome would be unknown.
		uncancelled := context.WithoutCancel(ctx)
		if len(own) > 0 && rand.IntN(4) == 0 {
			b.write(uncancelled, own[rand.IntN(len(own))])
		} else {
			b.read(uncancelled, b.Keys[rand.IntN(len(b.Keys))])
		}
	}
}

func (b *BuiltInLoad) write(ctx context.Context, key record.Key) {
	number, token := b.ledger.begin(key)
	if b.Column == "" {
		token = record.Value{}
	}
	began := time.Now()
	version, err := b.touch(ctx, key, token)
	if err == nil && !version.IsZero() {
		b.ledger.acknowledged(key, number, version)
	}
	b.add(true, time.Since(began), err == nil && !version.IsZero())
}

// touch writes one record to the stores of the route. The version is zero if legacy does not
// have the record.
func (b *BuiltInLoad) touch(ctx context.Context, key record.Key, v record.Value) (version record.Version, err error) {
	err = b.writer.Write(ctx, dual.Op[record.Key, value]{
		Keys: []record.Key{key},
		Legacy: func(ctx context.Context) ([]dual.Change[record.Key, value], error) {
			row, err := b.Legacy.Touch(ctx, key, b.Column, v)
			if err != nil || !row.Found {
				return nil, err
			}
			version = row.Version
			return []dual.Change[record.Key, value]{{Key: key, Value: value{record: row.Record}, Version: row.Version}}, nil
		},
	})
	return version, err
}

func (b *BuiltInLoad) read(ctx context.Context, key record.Key) {
	floor := b.ledger.floor(key)
	began := time.Now()
	v, found, err := b.reader.Get(ctx, key)
	b.add(false, time.Since(began), err == nil)
	if err != nil {
		return
	}
	result, text := b.ledger.verify(key, floor, found, v)
	if result != unwatched {
		b.ledger.increment(&b.ledger.checked.Watched, "")
	}
	switch corrupted := began.UnixNano() < b.corrupted[1].Load() && time.Now().UnixNano() > b.corrupted[0].Load(); {
	case result != lost && result != stale:
	case corrupted:
		b.ledger.increment(&b.ledger.checked.Harmed, "")
	default:
		b.ledger.increment(&b.ledger.staleReads, "a read: "+text)
	}
}

// MarkCorrupted implements Recorder.
func (b *BuiltInLoad) MarkCorrupted(from, until time.Time) {
	b.corrupted[0].Store(from.UnixNano())
	b.corrupted[1].Store(until.UnixNano())
}

// Stop implements Load. The instance stays in the fleet until Check or Close.
func (b *BuiltInLoad) Stop() {
	if b.end != nil {
		b.end()
		b.busy.Wait()
	}
}

// Totals implements Load.
func (b *BuiltInLoad) Totals() Totals {
	t := b.sum()
	t.Kind = fmt.Sprintf("built-in, on %d records", len(b.Keys))
	if b.Column != "" {
		t.Kind += ", changing " + b.Column
	}
	return t
}

// Check implements Load, and closes the load.
func (b *BuiltInLoad) Check(ctx context.Context) (Checked, bool, error) {
	if err := b.checkAnswers(ctx); err != nil {
		return Checked{}, false, err
	}
	if err := b.checkTarget(ctx); err != nil {
		return Checked{}, false, err
	}
	controlFound, err := b.negativeControl(ctx)
	if err != nil {
		return Checked{}, false, err
	}
	return b.ledger.result(), controlFound, b.Close(ctx)
}

// negativeControl checks writes that were never made: one of a record that does not exist,
// and one later than the last write of a record that does. It reports whether the check
// finds them missing.
func (b *BuiltInLoad) negativeControl(ctx context.Context) (found bool, err error) {
	key := record.MakeKey("a record that was never written")
	v, there, err := b.reader.Get(ctx, key)
	if err != nil {
		return false, err
	}
	never, _ := b.ledger.verify(key, entry{floor: 1}, there, v)
	if b.Column == "" || never != lost {
		return never == lost, nil
	}
	for _, key := range b.ledger.keys() {
		v, there, err := b.reader.Get(ctx, key)
		if err != nil {
			return false, err
		}
		switch later, _ := b.ledger.verify(key, entry{floor: b.ledger.floor(key).sent + 1}, there, v); later {
		case stale:
			return true, nil
		case right:
			return false, nil
		case lost, overwritten, unwatched: // try another record
		}
	}
	return false, nil
}

// checkAnswers reads from the store that the route reads, as a client does.
func (b *BuiltInLoad) checkAnswers(ctx context.Context) error {
	for _, key := range b.ledger.keys() {
		v, found, err := b.reader.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("read %q: %w", string(key), err)
		}
		b.ledger.increment(&b.ledger.checked.Records, "")
		result, text := b.ledger.verify(key, b.ledger.floor(key), found, v)
		if result != unwatched {
			b.ledger.increment(&b.ledger.compared, "")
		}
		switch result {
		case lost:
			b.ledger.increment(&b.ledger.checked.Lost, text)
		case stale:
			b.ledger.increment(&b.ledger.stale, text)
		case overwritten:
			b.ledger.increment(&b.ledger.checked.Overwritten, "")
		case right, unwatched:
		}
	}
	return nil
}

// checkTarget reads the target: the journal is empty, so it must lack nothing.
func (b *BuiltInLoad) checkTarget(ctx context.Context) error {
	keys := b.ledger.keys()
	entries, err := b.Target.Get(ctx, keys)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if acknowledged := b.ledger.floor(keys[i]).version; acknowledged.NewerThan(e.Version) {
			b.ledger.increment(&b.ledger.checked.Behind,
				fmt.Sprintf("the target has %q at version %s, but %s was acknowledged", string(keys[i]), e.Version, acknowledged))
		}
	}
	return nil
}

// restore writes the original text back into the column, unless the application has written
// it since.
func (b *BuiltInLoad) restore(ctx context.Context) error {
	for key, was := range b.original {
		v, found, err := b.lookup(ctx, key)
		if err != nil {
			return err
		}
		if result, _ := b.ledger.verify(key, entry{floor: 1}, found, v); result != right && result != stale {
			continue
		}
		if _, err := b.touch(ctx, key, was); err != nil {
			return fmt.Errorf("restore %s of %q: %w", b.Column, string(key), err)
		}
	}
	return nil
}

// Close restores what the load has changed, and leaves the fleet. A second call does nothing.
func (b *BuiltInLoad) Close(ctx context.Context) (err error) {
	b.Stop()
	if b.leave == nil {
		return nil
	}
	if b.writer != nil {
		err = b.restore(ctx)
	}
	b.leave()
	b.leave = nil
	return errors.Join(err, <-b.left)
}
