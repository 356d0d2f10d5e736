package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Apply implements store.Target: one script for each write. A write whose own key
// failed has the error in its Result; the returned error means that no write was answered.
//
// A write that failed without an answer may have been applied nevertheless. It is
// sent again within the call: its version makes that harmless. A conditional write
// (Only) is not sent again: its condition would refuse its own effect.
func (t *Target) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]store.Result, len(writes))
	commands := make([]*command, 0, len(writes))
	places := make([]int, 0, len(writes))
	for i := range writes {
		c, err := t.command(&writes[i])
		if err != nil {
			results[i].Err = fmt.Errorf("write %q to Redis: %w", string(writes[i].Key), err)
			continue
		}
		commands, places = append(commands, c), append(places, i)
	}
	t.send(ctx, commands)
	var failed error
	answered := len(commands) == 0
	for n, c := range commands {
		r := &results[places[n]]
		switch {
		case c.result.Outcome != "":
			*r = c.result
		case c.err == nil:
			c.err = outcome(r, c.value)
		}
		if c.err == nil || isReply(c.err) {
			answered = true
		}
		if c.err != nil {
			r.Err = fmt.Errorf("write %q to Redis: %w", string(writes[places[n]].Key), c.err)
			failed = c.err
		}
	}
	if !answered {
		return results, fmt.Errorf("write to Redis: %w", failed)
	}
	return results, nil
}

// command builds the script call for a write. apply.lua documents the arguments.
func (t *Target) command(w *store.Write) (*command, error) {
	key, sidecarKey, err := t.names(w.Key)
	if err != nil {
		return nil, err
	}
	version := w.Version.AppendText32(nil)
	args := append(make([]any, 0, 8+2*len(w.Record)), version, "", "", "", "", "", "")
	if w.Only != nil {
		args[1] = w.Only.AppendText32(nil)
	}
	if !w.NotAfter.IsZero() {
		args[2] = strconv.FormatInt(w.NotAfter.UnixMicro(), 10)
	}
	if w.Overwrite {
		args[3] = "1"
	}
	// [tombstone]: without a horizon the version stays for good.
	if !w.Keep {
		args[6] = strconv.FormatInt(time.Duration(t.horizon.Load()).Milliseconds(), 10)
	}
	var r record.Record
	if w.Deleted {
		args[4] = "1"
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
				args[5] = strconv.FormatInt(ms, 10)
			}
		}
	}
	if args, err = t.codec.appendWrite(args, version, r); err != nil {
		return nil, err
	}
	return &command{
		// [retain-once]: once, since a conditional write that is sent again would be refused by
		// its own effect, and count as failed.
		key: key, script: t.apply, keys: []string{key, sidecarKey}, args: args,
		size: size(args) + len(key) + len(sidecarKey), once: w.Only != nil,
	}, nil
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

// outcome fills r from the script's reply.
func outcome(r *store.Result, reply any) error {
	if list, ok := reply.([]any); ok && len(list) == 2 {
		what, ok := list[0].(string)
		version, ok2 := list[1].(string)
		if ok && ok2 && record.IsVersion(version) {
			r.Outcome, r.Version = store.Outcome(what), versionOf(version)
			return nil
		}
	}
	return fmt.Errorf("unexpected reply %T of the script", reply)
}
