//go:build unix

package torture

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// open connects to both stores directly, without the wires.
func (w *world) open(ctx context.Context) (store.Legacy, store.Target, error) {
	text, err := os.ReadFile(w.file)
	if err != nil {
		return nil, nil, err
	}
	m, err := openstore.Parse(w.file, text, func(name string) (string, bool) {
		u := map[string]string{"TORTURE_LEGACY_URL": w.legacy.URL(), "TORTURE_TARGET_URL": w.target.URL()}[name]
		return u, u != ""
	})
	if err != nil {
		return nil, nil, err
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return nil, nil, err
	}
	target, err := m.OpenTarget(ctx, legacy.Schema())
	if err != nil {
		legacy.Close()
	}
	return legacy, target, err
}

func allKeys(n int) (keys []record.Key) {
	for k := range n {
		keys = append(keys, cellKey(int64(k)))
	}
	return keys
}

// watch checks that no key's version in the target ever decreases.
func (w *world) watch(ctx context.Context, target store.Target, keys []record.Key) error {
	highest := make([]record.Version, len(keys))
	for pause(ctx, 20*time.Millisecond) {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		entries, err := target.Get(bounded, keys)
		cancel()
		if err != nil {
			continue // it is down, or frozen
		}
		for i, e := range entries {
			if highest[i].NewerThan(e.Version) {
				w.events.add("target", "k%d decreased from %s to %s", i, highest[i], e.Version)
				return fmt.Errorf("the target's version of key %d decreased from %s to %s", i, highest[i], e.Version)
			}
			highest[i] = e.Version
		}
	}
	return nil
}

// compare returns the differences between the stores, which are not being written.
func (w *world) compare(ctx context.Context, target store.Target, keys []record.Key) (differ []string, err error) {
	conn, err := pgx.Connect(ctx, w.legacy.URL())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `SELECT id, value, seq FROM cells`)
	if err != nil {
		return nil, err
	}
	cells, err := pgx.CollectRows(rows, pgx.RowToStructByPos[cell])
	if err != nil {
		return nil, err
	}
	inLegacy := map[int64]cell{}
	for _, c := range cells {
		inLegacy[c.ID] = c
	}
	entries, err := target.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		l, found := inLegacy[int64(i)]
		want := []string{strconv.Itoa(i), l.Value, strconv.FormatInt(l.Seq, 10)}
		switch {
		case found != (e.Presence == store.Live):
			differ = append(differ, fmt.Sprintf("k%d: in legacy %v, in the target %s", i, found, e.Presence))
		case found:
			for f, v := range e.Record {
				if v.Text != want[f] {
					differ = append(differ, fmt.Sprintf("k%d: legacy has %q, the target %q", i, want[f], v.Text))
				}
			}
		}
	}
	return differ, nil
}
