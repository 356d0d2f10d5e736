// Package redis is Redis as a target: one Redis key for
// each record, a hash or a JSON string, on a single server, under Sentinel or in a
// cluster.
//
// A record's version is in the record itself, in a reserved field; in a JSON document
// it is the first member. The version of a deleted record, or of one that may expire,
// is in a string beside it (the sidecar), in the same cluster slot, named
// migrator:v:{...}. So for other readers a deleted key is really absent, and an expiry
// is a real expiry.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

const (
	defaultVersionField = "_v"
	defaultHorizon      = 24 * time.Hour
)

// Target is Redis as a migration's target. It is safe for concurrent use. It
// sends commands to masters only.
type Target struct {
	client    goredis.UniversalClient
	cluster   *goredis.ClusterClient // the client, if it is one
	user      string                 // of the URL; "": the server's default
	database  int
	migration string
	schema    *record.Schema
	template  *Template
	codec     codec
	apply     *script
	rules     []record.Rule // of comparison
	expires   int           // index of the field past which a record does not exist; -1: none
	horizon   atomic.Int64  // nanoseconds: how long the version of a deleted record stays

	bulk         bulkPool
	noExpireTime atomic.Bool // the server has no PEXPIRETIME
	buffers      sync.Pool   // of *loadBuffers
	noFastLoad   atomic.Bool // the server or its user refuses the fast script of BulkLoad
	oneSlot      atomic.Bool // the server refuses a call with keys of several slots: a cluster behind one address
}

var _ store.Target = (*Target)(nil)

// Open makes a target from the migration file. It does not connect, so that an
// application starts while its target is down. An error is one of configuration, and
// contains no part of the URL.
func Open(_ context.Context, m *migration.Config, url string, schema *record.Schema) (*Target, error) {
	if url == "" {
		return nil, errNoURL
	}
	c, ok := m.Target.Part.(*TargetConfig)
	if !ok {
		c = &TargetConfig{}
	}
	template, err := ParseTemplate(c.KeyTemplate, schema)
	if err != nil {
		return nil, err
	}
	t := &Target{migration: m.Name, schema: schema, template: template, rules: m.Compare, expires: -1}
	t.KeepTombstones(time.Duration(m.Writing.Tombstones))
	reserved := c.VersionField
	if reserved == "" {
		reserved = defaultVersionField
	}
	names, err := targetNames(schema, reserved)
	if err != nil {
		return nil, err
	}
	switch c.Format {
	case "", "hash":
		t.codec, t.apply = newHashCodec(schema, names, reserved), applyHash
	case "json":
		if t.codec, err = newJSONCodec(schema, names, reserved, c.Numbers); err != nil {
			return nil, err
		}
		t.apply = applyJSON
	default:
		return nil, fmt.Errorf("target.format %q: want hash or json", c.Format)
	}
	if c.Expires != "" {
		if t.expires, err = expiryField(schema, c.Expires); err != nil {
			return nil, err
		}
	}
	if t.client, err = dial(url, t.ACL); err != nil {
		return nil, err
	}
	switch client := t.client.(type) {
	case *goredis.ClusterClient:
		t.cluster, t.user = client, client.Options().Username
	case *goredis.Client:
		t.user, t.database = client.Options().Username, client.Options().DB
	}
	return t, nil
}

// targetNames returns the fields' names in the target.
func targetNames(schema *record.Schema, reserved string) ([]string, error) {
	names := make([]string, len(schema.Fields))
	seen := map[string]string{}
	for i, f := range schema.Fields {
		names[i] = f.Target
		if names[i] == "" {
			names[i] = f.Name
		}
		if names[i] == reserved {
			return nil, hint.Errorf(hint.Hint{Text: "give it another name by fields, or set target.version_field"}, "field %q would be named %q in the target, which is reserved for the version", f.Name, reserved)
		}
		if other, ok := seen[names[i]]; ok {
			return nil, hint.Errorf(hint.Hint{Text: "give one of them another name by fields"}, "fields %q and %q would both be named %q in the target", other, f.Name, names[i])
		}
		seen[names[i]] = f.Name
	}
	return names, nil
}

// Client is the client that the target uses. It never repeats a command.
func (t *Target) Client() goredis.UniversalClient { return t.client }

// Template makes and reads the records' Redis keys.
func (t *Target) Template() *Template { return t.template }

// callRows is how many records a call of a script may have, if they fit.
func (t *Target) callRows() int {
	if t.cluster != nil || t.oneSlot.Load() {
		return 1
	}
	return loadRows
}

// noteRefusal remembers that the server refuses calls with keys of several slots.
func (t *Target) noteRefusal(text string) {
	if strings.HasPrefix(text, "CROSSSLOT") {
		t.oneSlot.Store(true)
	}
}

// Close ends all connections.
func (t *Target) Close() error {
	t.bulk.close()
	return t.client.Close()
}

// Now reads the clock of the server; in a cluster, the least of its masters' clocks. A write's
// NotAfter is compared with the clock of the key's own master: if the masters' clocks
// differ, some refuse a write earlier, by the difference, of which Check warns.
func (t *Target) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	var mu sync.Mutex
	var least time.Time
	// [not-after]: each master refuses by its own clock. By a clock that is ahead of another one's,
	// that one would take a write too late.
	err := t.masters(ctx, func(ctx context.Context, client *goredis.Client) error {
		now, err := client.Time(ctx).Result()
		mu.Lock()
		defer mu.Unlock()
		if err == nil && (least.IsZero() || now.Before(least)) {
			least = now
		}
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("read Redis's clock: %w", contextError(ctx, err))
	}
	return least.UTC(), nil
}

// contextError puts the context's error, if it has ended, before the error that
// followed from it.
func contextError(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w (%w)", ended, err)
	}
	return err
}

// masters calls f with a client for each master; in a cluster, concurrently.
func (t *Target) masters(ctx context.Context, f func(ctx context.Context, client *goredis.Client) error) error {
	if t.cluster != nil {
		return t.cluster.ForEachMaster(ctx, f)
	}
	client, ok := t.client.(*goredis.Client)
	if !ok {
		return fmt.Errorf("unknown client %T", t.client)
	}
	return f(ctx, client)
}

// KeepTombstones implements store.TombstoneHolder. Not above 0: the default.
func (t *Target) KeepTombstones(horizon time.Duration) {
	if horizon <= 0 {
		horizon = defaultHorizon
	}
	t.horizon.Store(int64(horizon))
}
