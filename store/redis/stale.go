package redis

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.StaleLister = (*Target)(nil)

// ListStale implements store.StaleLister: SCAN over each master, then the version of
// each key. A key without a version that is new enough is read again by Get.
func (t *Target) ListStale(ctx context.Context, than record.Version, yield func([]record.Key) error) error {
	var mu sync.Mutex
	return t.withStableTopology(ctx, func() error {
		return t.masters(ctx, func(ctx context.Context, client *goredis.Client) error {
			conn, err := dialBulk(ctx, client.Options())
			if err != nil {
				return fmt.Errorf("scan Redis: %w", contextError(ctx, err))
			}
			defer func() { _ = conn.Close() }()
			l := listing{
				t: t, reader: t.codec.versions(), than: than.AppendText32(nil),
				cursor: cursor{pattern: globEscape(t.template.Prefix()) + "*", at: "0"},
			}
			conn.out = l.cursor.ask(conn.out)
			for !l.cursor.ended() || len(l.ends) > 0 {
				l.unclear = nil
				if err := conn.during(ctx, func() error { return l.next(conn) }); err != nil {
					return fmt.Errorf("scan Redis: %w", err)
				}
				mu.Lock()
				err := t.yieldStale(ctx, l.unclear, than, yield)
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// yieldStale yields those of the keys that are stale.
func (t *Target) yieldStale(ctx context.Context, keys []record.Key, than record.Version, yield func([]record.Key) error) error {
	if len(keys) == 0 {
		return nil
	}
	entries, err := t.Get(ctx, keys)
	if err != nil {
		return err
	}
	var stale []record.Key
	for i := range entries {
		// [backfill-sweep]: read again, since a live write may have come in between.
		if entries[i].IsStale(than) {
			stale = append(stale, entries[i].Key)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	return yield(stale)
}

// versionReader requests a record's version without the record.
type versionReader struct {
	head, tail []byte // of the command, before and after the name
	prefix     string // of the reply, before the version
	suffix     string // after it
}

func (c *hashCodec) versions() versionReader {
	return versionReader{head: []byte("*3\r\n$4\r\nHGET\r\n"), tail: appendBulk(nil, c.reserved)}
}

func (c *jsonCodec) versions() versionReader {
	end := strconv.Itoa(len(c.head) + record.VersionDigits) // with the quote after them
	return versionReader{
		head: []byte("*4\r\n$8\r\nGETRANGE\r\n"), tail: appendBulk(appendBulk(nil, "0"), end), prefix: c.head, suffix: `"`,
	}
}

// listing is the scan of one master. Each of its pipelines reads the versions of the
// names that SCAN returned, and requests the next page of SCAN.
type listing struct {
	t       *Target
	reader  versionReader
	than    []byte
	cursor  cursor
	names   []byte // whose versions are requested, concatenated
	ends    []int
	unclear []record.Key
}

// next sends a pipeline, reads all of its replies, and prepares the next pipeline.
func (l *listing) next(c *bulkConn) error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := l.versions(c); err != nil {
		return err
	}
	l.names, l.ends = l.names[:0], l.ends[:0]
	if l.cursor.ended() {
		return nil
	}
	if err := l.scanned(c); err != nil {
		return err
	}
	if !l.cursor.ended() {
		c.out = l.cursor.ask(c.out)
	}
	return nil
}

// versions collects the records without a version that is new enough.
func (l *listing) versions(c *bulkConn) error {
	from := 0
	for _, end := range l.ends {
		kind, n, err := c.header()
		if err != nil {
			return err
		}
		var text []byte
		switch {
		case kind == '$' && n >= 0:
			if text, err = c.text(n); err != nil {
				return err
			}
		case kind != '$' && kind != '-':
			return errUnexpectedReply
		}
		if !l.reader.newEnough(text, l.than) {
			if key, err := l.t.template.Parse(string(l.names[from:end])); err == nil {
				l.unclear = append(l.unclear, key)
			}
		}
		from = end
	}
	return nil
}

// newEnough reports whether the reply is a version that is not older than than.
func (r *versionReader) newEnough(reply, than []byte) bool {
	version, begins := bytes.CutPrefix(reply, []byte(r.prefix))
	version, ends := bytes.CutSuffix(version, []byte(r.suffix))
	if !begins || !ends {
		return false
	}
	return bytes.Compare(version, than) >= 0 && record.IsVersion(version)
}

// scanned reads SCAN's reply and requests the versions.
func (l *listing) scanned(c *bulkConn) error {
	names, err := l.cursor.answered(c)
	if err != nil {
		return err
	}
	for range names {
		name, err := l.cursor.name(c)
		if err != nil {
			return err
		}
		c.out = append(appendBulk(append(c.out, l.reader.head...), name), l.reader.tail...)
		l.names = append(l.names, name...)
		l.ends = append(l.ends, len(l.names))
	}
	return nil
}
