// Package redis is Redis as the store that records move into: one Redis key for
// each record, a hash or a JSON string, on a single server, under Sentinel or in a
// cluster.
//
// A record's version stands in the record itself, in a reserved field: the first
// member of a JSON document. The version of a record that is gone, or may expire,
// stands in a string beside it, in the same cluster slot, named migrator:v:{...}.
// So other readers find a deleted key really absent and an expiry a real one.
package redis

import (
	"context"
	"errors"
	"fmt"
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

// Target is Redis as a migration's target. Its methods may be called from several
// goroutines. All of it speaks to masters alone.
type Target struct {
	client   goredis.UniversalClient
	cluster  *goredis.ClusterClient // the client, if it is one
	schema   *record.Schema
	template *Template
	codec    codec
	apply    *script
	expires  int           // index of the field past which a record does not exist; -1: none
	horizon  time.Duration // how long the version of a record that is gone stays

	bulk         bulkPool
	noExpireTime atomic.Bool // the server has no PEXPIRETIME
	buffers      sync.Pool   // of *fillBuffers
	noFastLoad   atomic.Bool // the server, or its user, has no fast way to fill
}

var _ store.Target = (*Target)(nil)

// Open makes a target of the migration's description. It does not connect: an
// application starts while its target is down. The error is one of configuration
// and holds nothing of the URL.
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
	t := &Target{schema: schema, template: template, expires: -1, horizon: time.Duration(m.Writing.Tombstones)}
	if t.horizon <= 0 {
		t.horizon = defaultHorizon
	}
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
		if t.codec, err = newJSONCodec(schema, names, reserved); err != nil {
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
	if t.client, err = dial(url); err != nil {
		return nil, err
	}
	t.cluster, _ = t.client.(*goredis.ClusterClient)
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

// Client is the connection that the target uses. It never repeats a command.
func (t *Target) Client() goredis.UniversalClient { return t.client }

// Template makes and reads the records' Redis keys.
func (t *Target) Template() *Template { return t.template }

// Close ends all connections.
func (t *Target) Close() error {
	t.bulk.close()
	return t.client.Close()
}

// Now reads the clock of the server; in a cluster, of one of its masters. A write's
// NotAfter is held against the clock of the key's own master: where the masters'
// clocks differ, it comes sooner or later by so much, which Check warns of.
func (t *Target) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	now, err := t.client.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("read Redis's clock: %w", contextError(ctx, err))
	}
	return now.UTC(), nil
}

// because prefers the context's own error to what became of it.
func contextError(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w (%w)", ended, err)
	}
	return err
}

// masters calls f with a client of each master, at the same time in a cluster.
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
