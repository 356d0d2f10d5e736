package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// The letters of a write in apply.lua.
const (
	letterOverwrite = "o"
	letterDelete    = "d"
	letterKeep      = "k"
)

// Apply implements store.Target: on one server each script call has up to loadRows
// writes, in a cluster one. A write whose own key failed has the error in its Result; the
// returned error means that no write was answered.
//
// A write that failed without an answer may have been applied nevertheless. It is
// sent again within the call: its version makes that harmless. A conditional write
// (Only) is not sent again: its condition would refuse its own effect.
func (t *Target) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	each := t.callRows()
	results := make([]store.Result, len(writes))
	a := applying{t: t, writes: writes, results: results}
	for i := range writes {
		a.add(i, each)
	}
	if len(a.calls) == 0 {
		return results, nil
	}
	// What a call did not answer, because the server refused the call or another of its writes
	// failed, is sent by itself: so each error belongs to its own write.
	if left := a.send(ctx); len(left) > 0 {
		for _, i := range left {
			a.add(i, 1)
		}
		a.send(ctx)
	}
	if !a.answered {
		return results, fmt.Errorf("write to Redis: %w", a.failed)
	}
	return results, nil
}

// applying is one Apply.
type applying struct {
	t       *Target
	writes  []store.Write
	results []store.Result

	calls []*applyCall
	open  [2]*applyCall       // which take more writes: unconditional and conditional ones
	keys  map[string]struct{} // sidecars of the open calls

	answered bool // a call was
	failed   error
}

// applyCall is one call of the script.
type applyCall struct {
	command

	notAfter time.Time
	places   []int // of its writes
}

// add adds a write to a call that has fewer than this many, or notes why it can't be sent.
func (a *applying) add(i, limit int) {
	w := &a.writes[i]
	key, sidecarKey, err := a.t.names(w.Key)
	if err == nil {
		err = a.append(w, i, key, sidecarKey, limit)
	}
	if err != nil {
		a.results[i].Err = fmt.Errorf("write %q to Redis: %w", string(w.Key), err)
	}
}

// append appends a write to an open call. apply.lua documents the arguments.
func (a *applying) append(w *store.Write, i int, key, sidecarKey string, limit int) error {
	if _, twice := a.keys[sidecarKey]; twice { // in their order, and no key twice in a call
		a.open, a.keys = [2]*applyCall{}, nil
	}
	kind := 0
	if w.Only != nil {
		kind = 1
	}
	c := a.open[kind]
	if c == nil || len(c.places) >= limit || c.size >= loadBytes || !c.notAfter.Equal(w.NotAfter) {
		few := min(limit, len(a.writes)-i)
		c = &applyCall{notAfter: w.NotAfter, command: command{
			// [retain-once]: once, since a conditional write that is sent again would be refused by
			// its own effect, and count as failed.
			key: key, script: a.t.apply, once: w.Only != nil, args: make([]any, 0, 3+few*(5+2*len(a.t.schema.Fields))), keys: make([]string, 0, 2*few),
		}, places: make([]int, 0, few)}
		late := ""
		if !w.NotAfter.IsZero() {
			late = strconv.FormatInt(w.NotAfter.UnixMicro(), 10)
		}
		c.args = append(c.args, late, strconv.FormatInt(time.Duration(a.t.horizon.Load()).Milliseconds(), 10), a.t.codec.shared())
	}
	before := len(c.args)
	args, err := a.t.appendWrite(c.args, w)
	if err != nil {
		return err
	}
	c.args, c.keys, c.places = args, append(c.keys, key, sidecarKey), append(c.places, i)
	c.size += size(args[before:]) + len(key) + len(sidecarKey)
	if len(c.places) == 1 {
		a.calls = append(a.calls, c)
	}
	if limit > 1 {
		if a.keys == nil {
			a.keys = make(map[string]struct{}, len(a.writes))
		}
		a.open[kind], a.keys[sidecarKey] = c, struct{}{}
	}
	return nil
}

// appendWrite appends the arguments of one write.
func (t *Target) appendWrite(args []any, w *store.Write) ([]any, error) {
	version := w.Version.AppendText32(nil)
	var only any = ""
	if w.Only != nil {
		only = w.Only.AppendText32(nil)
	}
	letters, expires := "", ""
	if w.Overwrite {
		letters = letterOverwrite
	}
	// [tombstone]: without a horizon the version stays for good.
	if w.Keep {
		letters += letterKeep
	}
	var r record.Record
	if w.Deleted {
		letters += letterDelete
	} else {
		if r = w.Record; len(r) != len(t.schema.Fields) {
			return nil, fmt.Errorf("the record has %d values, the schema %d fields", len(r), len(t.schema.Fields))
		}
		if t.expires >= 0 {
			ms, ever, err := expiryOf(r[t.expires])
			if err != nil {
				return nil, fmt.Errorf("field %q: %w", t.schema.Fields[t.expires].Name, err)
			}
			if ever {
				expires = strconv.FormatInt(ms, 10)
			}
		}
	}
	args = append(args, version, only, letters, expires, "0")
	from := len(args)
	if w.Deleted {
		return args, nil
	}
	args, err := t.codec.appendRecord(args, version, r)
	if err != nil {
		return nil, err
	}
	args[from-1] = strconv.Itoa(len(args) - from)
	return args, nil
}

// send sends the calls and sets their writes' results. It returns the writes that must be sent
// by themselves.
func (a *applying) send(ctx context.Context) (left []int) {
	commands := make([]*command, len(a.calls))
	for n, c := range a.calls {
		commands[n] = &c.command
	}
	a.t.send(ctx, commands)
	for _, c := range a.calls {
		a.answered = a.answered || c.err == nil || isReply(c.err)
		done := 0
		if c.err == nil {
			done, c.err = outcomes(c.places, a.results, c.value)
		}
		rest := c.places[done:]
		if len(c.places) > 1 && (c.err == nil || isReply(c.err)) {
			if c.err != nil {
				a.t.noteRefusal(c.err.Error())
			}
			left = append(left, rest...)
			continue
		}
		for _, i := range rest {
			a.results[i].Err = fmt.Errorf("write %q to Redis: %w", string(a.writes[i].Key), c.err)
			a.failed = c.err
		}
	}
	a.calls, a.open, a.keys = nil, [2]*applyCall{}, nil
	return left
}

// names returns the Redis keys of a record and of its sidecar.
func (t *Target) names(k record.Key) (key, sidecarKey string, err error) {
	if key, err = t.template.Render(k); err != nil {
		return "", "", err
	}
	sidecarKey, sameSlot := sidecar(key)
	if !sameSlot && t.cluster != nil {
		return "", "", errNoSlot
	}
	return key, sidecarKey, nil
}

// outcomes sets the results of a call's writes from the script's reply, and returns how many
// it has.
func outcomes(places []int, results []store.Result, reply any) (int, error) {
	list, ok := reply.([]any)
	if !ok || len(list) == 0 || len(list)%2 != 0 || len(list) > 2*len(places) {
		return 0, fmt.Errorf("unexpected reply %T of the script", reply)
	}
	for n := range len(list) / 2 {
		what, ok := list[2*n].(string)
		version, ok2 := list[2*n+1].(string)
		if !ok || !ok2 || !record.IsVersion(version) {
			return n, fmt.Errorf("unexpected reply %T of the script", reply)
		}
		r := &results[places[n]]
		r.Outcome, r.Version = store.Outcome(what), versionOf(version)
	}
	return len(list) / 2, nil
}
