package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func isReply(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

// Get implements store.Target. A live record costs one plain read, and one of its
// expiry if records expire. For every other key a script reads the key and its
// sidecar atomically.
func (t *Target) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries := make([]store.Entry, len(keys))
	names := make([][2]string, len(keys))
	for i, k := range keys {
		key, sidecarKey, err := t.names(k)
		if err != nil {
			return nil, fmt.Errorf("read %q from Redis: %w", string(k), err)
		}
		entries[i].Key, names[i] = k, [2]string{key, sidecarKey}
	}
	unclear := make([]int, 0, len(keys))
	if t.expires >= 0 && t.noExpireTime.Load() {
		for i := range keys {
			unclear = append(unclear, i)
		}
	} else {
		var err error
		if unclear, err = t.readLive(ctx, entries, names, unclear); err != nil {
			return nil, err
		}
	}
	if len(unclear) == 0 {
		return entries, nil
	}
	return entries, t.readByScript(ctx, entries, names, unclear)
}

// readLive reads records without their sidecars, and returns the positions of those
// that readByScript must read.
func (t *Target) readLive(ctx context.Context, entries []store.Entry, names [][2]string, unclear []int) ([]int, error) {
	each := 1
	if t.expires >= 0 {
		each = 2
	}
	commands := make([]*command, 0, each*len(entries))
	for i := range entries {
		key := names[i][0]
		args := t.codec.read(key)
		commands = append(commands, &command{key: key, args: args, size: size(args)})
		if each == 2 {
			commands = append(commands, &command{key: key, args: []any{"pexpiretime", key}, size: len(key) + 32})
		}
	}
	t.send(ctx, commands)
	for i := range entries {
		c := commands[each*i]
		if c.err != nil && !isReply(c.err) {
			return nil, fmt.Errorf("read from Redis: %w", c.err)
		}
		if c.err != nil && !goredis.HasErrorPrefix(c.err, "WRONGTYPE") {
			return nil, fmt.Errorf("read %q from Redis: %w", string(entries[i].Key), c.err)
		}
		if c.err == nil {
			t.codec.decode(&entries[i], c.value)
		}
		complete := c.err == nil && entries[i].Presence == store.Live
		if complete && each == 2 {
			complete = t.setExpiry(&entries[i], commands[2*i+1])
		}
		if !complete {
			unclear = append(unclear, i)
		}
	}
	return unclear, nil
}

// setExpiry reports whether it has set the expiry; else readByScript must read it.
func (t *Target) setExpiry(e *store.Entry, c *command) bool {
	if c.err != nil {
		if isReply(c.err) && strings.Contains(strings.ToLower(c.err.Error()), "unknown command") {
			t.noExpireTime.Store(true)
		}
		return false
	}
	ms, ok := c.value.(int64)
	if !ok || ms == -2 { // expired or deleted since the read
		return false
	}
	if ms >= 0 {
		e.Expires = time.UnixMilli(ms).UTC()
	}
	return true
}

// readByScript reads some of the entries by the script.
func (t *Target) readByScript(ctx context.Context, entries []store.Entry, names [][2]string, which []int) error {
	args := append([]any{t.codec.kind()}, t.codec.fields()...)
	commands := make([]*command, len(which))
	for n, i := range which {
		commands[n] = &command{key: names[i][0], script: readScript, keys: names[i][:], args: args, size: size(args)}
	}
	t.send(ctx, commands)
	for n, i := range which {
		c := commands[n]
		if c.err == nil {
			c.err = t.decodeReply(&entries[i], c.value)
		}
		if c.err != nil {
			return fmt.Errorf("read %q from Redis: %w", string(entries[i].Key), c.err)
		}
	}
	return nil
}

// decodeReply sets an entry from the script's reply.
func (t *Target) decodeReply(e *store.Entry, reply any) error {
	list, ok := reply.([]any)
	if !ok || len(list) != 4 {
		return fmt.Errorf("unexpected reply %T of the script", reply)
	}
	kind, _ := list[0].(string)
	digits, _ := list[1].(string)
	ms, _ := list[2].(int64)
	*e = store.Entry{Key: e.Key, Presence: store.Absent}
	switch kind {
	case "none":
	case t.codec.kind():
		t.codec.decode(e, list[3])
		if e.Presence == store.Absent { // a hash without any field of the record
			e.Presence, e.Detail = store.Unowned, "a hash without any field of the record"
			e.Record = make(record.Record, len(t.schema.Fields))
		}
	default:
		e.Presence, e.Detail = store.WrongType, "a "+kind+", not a "+t.codec.kind()
	}
	if t.expires >= 0 && e.Presence == store.Live && ms >= 0 {
		e.Expires = time.UnixMilli(ms).UTC()
	}
	if e.Presence != store.Live && e.Version.IsZero() && record.IsVersion(digits) {
		e.Version = versionOf(digits)
		if e.Presence == store.Absent {
			e.Presence = store.Tombstone
		}
	}
	return nil
}
