package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

const scanCount = 1000

// errTopologyChanged refuses a scan during which keys moved between masters: it may
// have missed some.
var errTopologyChanged = hint.Errorf(hint.Hint{Do: hint.Retry, Text: "once no slots move"}, "the masters or their slots changed during the scan, which may have missed keys")

// Scan implements store.Target, with SCAN over each master: first the sidecars,
// then the records, so that of a record that is created or deleted meanwhile at most
// the tombstone is missed. It reads the whole key space of the database, with all
// foreign keys. A failover or a finished move of slots during the scan is an error.
func (t *Target) Scan(ctx context.Context, yield func([]store.Entry) error) error {
	return t.withStableTopology(ctx, func() error {
		if err := t.scanNames(ctx, t.template.sidecarPattern(), t.template.recordOf, func(found []record.Key, _ []store.Entry) error {
			entries, err := t.Get(ctx, found)
			if err != nil {
				return err
			}
			return yieldSome(yield, slices.DeleteFunc(entries, func(e store.Entry) bool { return e.Presence != store.Tombstone }))
		}); err != nil {
			return err
		}
		return t.scanRecords(ctx, func(found []record.Key, unknown []store.Entry) error {
			entries, err := t.Get(ctx, found)
			if err != nil {
				return err
			}
			// A key that was deleted since SCAN returned it is no entry.
			entries = slices.DeleteFunc(entries, func(e store.Entry) bool { return e.Presence == store.Absent })
			return yieldSome(yield, append(entries, unknown...))
		})
	})
}

var _ store.KeyScanner = (*Target)(nil)

// ScanKeys implements store.KeyScanner.
func (t *Target) ScanKeys(ctx context.Context, yield func([]record.Key, []store.Entry) error) error {
	return t.withStableTopology(ctx, func() error { return t.scanRecords(ctx, yield) })
}

// withStableTopology runs a scan, and refuses its result if the topology has changed.
func (t *Target) withStableTopology(ctx context.Context, scan func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before, err := t.topology(ctx)
	if err != nil {
		return fmt.Errorf("scan Redis: %w", contextError(ctx, err))
	}
	if err := scan(); err != nil {
		return err
	}
	after, err := t.topology(ctx)
	if err != nil {
		return fmt.Errorf("scan Redis: %w", contextError(ctx, err))
	}
	if before != after {
		return errTopologyChanged
	}
	return nil
}

func yieldSome(yield func([]store.Entry) error, entries []store.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return yield(entries)
}

// scanRecords scans for records' names.
func (t *Target) scanRecords(ctx context.Context, each func([]record.Key, []store.Entry) error) error {
	return t.scanNames(ctx, globEscape(t.template.Prefix())+"*", t.template.Parse, each)
}

// scanNames calls each with batches of the Redis keys that match: those from which
// read makes a record's key, and the others. Calls are not concurrent; the servers
// continue meanwhile.
func (t *Target) scanNames(ctx context.Context, pattern string, read func(string) (record.Key, error), each func([]record.Key, []store.Entry) error) error {
	var mu sync.Mutex
	return t.masters(ctx, func(ctx context.Context, client *goredis.Client) error {
		group, ctx := errgroup.WithContext(ctx)
		pages := make(chan []string, 1)
		group.Go(func() error {
			defer close(pages)
			if err := scan(ctx, client, pattern, pages); err != nil {
				return fmt.Errorf("scan Redis: %w", contextError(ctx, err))
			}
			return nil
		})
		group.Go(func() error {
			for names := range pages {
				found, unknown := t.splitNames(names, read)
				mu.Lock()
				err := each(found, unknown)
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
		return group.Wait()
	})
}

// scan sends the names that match to pages. The server searches the next page while
// this one is read. A broken connection is replaced once for each page: a server
// closes a connection that is idle for long, which happens with a slow consumer.
func scan(ctx context.Context, client *goredis.Client, pattern string, pages chan<- []string) error {
	var conn *bulkConn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	c := cursor{pattern: pattern, at: "0"}
	for again := false; !c.ended(); {
		var err error
		if conn == nil {
			if conn, err = dialBulk(ctx, client.Options()); err != nil {
				return err
			}
			conn.out = c.ask(conn.out)
		}
		from := c.at
		var names []string
		err = conn.during(ctx, func() (err error) { names, err = c.page(conn); return err })
		var netErr net.Error
		if (errors.As(err, &netErr) || errors.Is(err, io.EOF)) && !again && ctx.Err() == nil {
			_ = conn.Close()
			conn, c.at, again = nil, from, true
			continue
		}
		if err != nil {
			return err
		}
		again = false
		select {
		case pages <- names:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// splitNames separates the names that read accepts from unknown keys.
func (t *Target) splitNames(names []string, read func(string) (record.Key, error)) (found []record.Key, unknown []store.Entry) {
	found = make([]record.Key, 0, len(names))
	for _, raw := range names {
		key, err := read(raw)
		switch {
		case err == nil:
			found = append(found, key)
		case !strings.HasPrefix(raw, sidecarPrefix):
			unknown = append(unknown, store.Entry{Presence: store.Unowned, RawKey: raw, Detail: "target.key " + t.template.String() + " does not generate this key"})
		}
	}
	return found, unknown
}

// topology describes the masters' run ids and, in a cluster, the owners of the slots.
func (t *Target) topology(ctx context.Context) (string, error) {
	var mu sync.Mutex
	var parts []string
	err := t.masters(ctx, func(ctx context.Context, client *goredis.Client) error {
		info, err := client.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		parts = append(parts, infoField(info, "run_id"))
		return nil
	})
	if err != nil {
		return "", err
	}
	if t.cluster != nil {
		slots, err := t.cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // Redis 6.2 has no CLUSTER SHARDS
		if err != nil {
			return "", err
		}
		for _, s := range slots {
			if len(s.Nodes) > 0 {
				parts = append(parts, fmt.Sprintf("%d-%d %s", s.Start, s.End, s.Nodes[0].ID))
			}
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n"), nil
}

// infoField finds a line of INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
