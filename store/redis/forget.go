package redis

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ migration.ForgettingPart = (*TargetConfig)(nil)

type forgetter struct {
	t       *Target
	o       store.ForgetOptions
	version string // the field of a record that has its version
}

// OpenForget implements migration.ForgettingPart.
func (c *TargetConfig) OpenForget(ctx context.Context, m *migration.Config, schema *record.Schema, o store.ForgetOptions) (store.Forgetter, error) {
	t, err := Open(ctx, m, m.Target.URL, schema)
	if err != nil {
		return nil, err
	}
	return &forgetter{t, o, cmp.Or(c.VersionField, defaultVersionField)}, nil
}

// Era implements store.Forgetter: a target has none.
func (f *forgetter) Era(context.Context) (uint32, error) { return 0, nil }

func (f *forgetter) Close() error { return f.t.Close() }

func (f *forgetter) ours(owner string) bool {
	return owner == f.o.Owner || f.o.AnyOwner && strings.HasPrefix(owner, f.t.migration+"@")
}

// owned returns the registrations that are this migration's, and the first one of another
// migration whose keys may be the same: then the versions are that one's too.
func (f *forgetter) owned(ctx context.Context) (own []registration, other string, err error) {
	all, err := f.t.owners(ctx)
	for _, one := range all {
		switch {
		case f.ours(one.owner):
			own = append(own, one)
		case meet(f.t.template.pattern(), one.pattern):
			other = one.owner
		}
	}
	return own, other, err
}

// Traces implements store.Forgetter.
func (f *forgetter) Traces(ctx context.Context) ([]store.Trace, error) {
	own, other, err := f.owned(ctx)
	if err != nil {
		return nil, err
	}
	list := []store.Trace{{What: "registrations of keys, and the marks of their owner", Count: int64(len(own))}}
	if other != "" {
		return append(list, store.Trace{What: "versions and tombstones, which belong to another migration now: " + other, Stays: true}), nil
	}
	var sidecars, records atomic.Int64
	count := func(n *atomic.Int64) func([]record.Key, []store.Entry) error {
		return func(keys []record.Key, _ []store.Entry) error { n.Add(int64(len(keys))); return nil }
	}
	if err := f.scanVersions(ctx, count(&sidecars)); err != nil {
		return nil, err
	}
	if err := f.t.ScanKeys(ctx, count(&records)); err != nil {
		return nil, err
	}
	return append(list,
		store.Trace{What: "versions beside records, and tombstones (" + sidecarPrefix + "...)", Count: sidecars.Load()},
		store.Trace{What: "records, with their version inside (" + f.version + "): another migration can take them over by it", Count: records.Load(), Stays: true},
	), nil
}

// scanVersions finds the versions beside records. It fails where slots of a cluster have moved meanwhile: what moved behind
// the scan would stay, and its versions would refuse a later migration's writes as older.
func (f *forgetter) scanVersions(ctx context.Context, each func([]record.Key, []store.Entry) error) error {
	return f.t.withStableTopology(ctx, func() error {
		return f.t.scanNames(ctx, f.t.template.sidecarPattern(), f.t.template.recordOf, each)
	})
}

// Forget implements store.Forgetter: first the versions, last the registration, which shows that there
// is something to remove.
func (f *forgetter) Forget(ctx context.Context) error {
	own, other, err := f.owned(ctx)
	if err != nil {
		return err
	}
	if other == "" {
		err := f.scanVersions(ctx, func(keys []record.Key, _ []store.Entry) error {
			commands := make([]*command, 0, len(keys))
			for _, k := range keys {
				_, name, err := f.t.names(k)
				if err != nil {
					return err
				}
				commands = append(commands, &command{key: name, args: []any{"unlink", name}})
			}
			f.t.send(ctx, commands)
			for _, c := range commands {
				if c.err != nil {
					return c.err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove the versions from Redis: %w", err)
		}
	}
	if err := f.t.evictOwners(ctx, own); err != nil {
		return fmt.Errorf("remove the migration from Redis: %w", err)
	}
	return nil
}
