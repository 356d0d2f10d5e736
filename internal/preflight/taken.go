package preflight

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

const (
	takenMost  = 100_000 // keys that are compared
	takenShown = 20
	takenBatch = 500
	keyShown   = 60 // characters
)

// checkTaken lists what legacy took while it had lost its fence: the records that were written
// there since the fence, and are not as the target has them. What the return copies is.
func (p *Preflight) checkTaken(ctx context.Context, legacy store.Legacy, target store.Target) []store.Check {
	lister, ok := legacy.(store.ChangeLister)
	st, known := p.status(ctx)
	if !ok || !known || st.Route.Phase != phases.Retain && st.Route.Phase != phases.Returning {
		return nil
	}
	s, err := p.state(ctx)
	if err != nil {
		return nil // a check has reported it
	}
	mark, lost, err := s.FenceMark(ctx, st.Migration, st.Attempt)
	if err != nil || !lost {
		return nil
	}
	keys, err := lister.ChangedSince(ctx, mark, takenMost)
	if err != nil {
		return []store.Check{refusal("taken", err)}
	}
	taken, err := p.differing(ctx, legacy, target, keys)
	if err != nil {
		return []store.Check{refusal("taken", err)}
	}
	least := ""
	if len(keys) == takenMost {
		least = "at least "
	}
	if len(taken) == 0 {
		return []store.Check{{
			Name: "taken", Result: store.Good,
			Detail: "legacy had lost its fence; of the " + least + humanize.Counted(len(keys), "record") + " written there since the fence, each is as the target has it. What was deleted there can't be seen",
		}}
	}
	journaled, err := s.Journaled(ctx, st.Migration, taken[:min(len(taken), takenShown)])
	if err != nil {
		return []store.Check{refusal("taken", err)}
	}
	return []store.Check{{
		Name: "taken", Result: store.Warned,
		Detail: fmt.Sprintf("legacy had lost its fence and took %s%s that the target does not have so: %s. What was deleted there can't be seen",
			least, humanize.Counted(len(taken), "record"), takenKeys(taken, journaled)),
		Hint: hint.Hint{Text: "compare the two states of each key, and write the one that is to stay through the application before the rollback, which then replaces legacy's; " +
			"where the target took no write since the fence legacy's own stays, and a repair after the rollback copies it"},
	}}
}

// takenKeys lists some keys; those that the target wrote too are marked.
func takenKeys(taken []record.Key, journaled map[record.Key]bool) string {
	var list []string
	for _, k := range taken[:min(len(taken), takenShown)] {
		text := []rune(string(k))
		if len(text) > keyShown {
			text = append(text[:keyShown:keyShown], '…')
		}
		shown := strconv.Quote(string(text))
		if journaled[k] {
			shown += " (the target took writes of it too: the rollback replaces legacy's state)"
		}
		list = append(list, shown)
	}
	if more := len(taken) - takenShown; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// differing returns the keys under which the two stores have not the same.
func (p *Preflight) differing(ctx context.Context, legacy store.Legacy, target store.Target, keys []record.Key) (differ []record.Key, err error) {
	schema := legacy.Schema()
	compare, err := record.NewComparer(schema, p.Config.Compare)
	if err != nil {
		return nil, err
	}
	expires := schema.Index(p.Config.ExpiryColumn())
	for len(keys) > 0 {
		batch := keys[:min(len(keys), takenBatch)]
		keys = keys[len(batch):]
		rows, err := legacy.Lookup(ctx, batch)
		if err != nil {
			return nil, err
		}
		entries, err := target.Get(ctx, batch)
		if err != nil {
			return nil, err
		}
		for i, row := range rows {
			if row.Found && expires >= 0 {
				then, ok := reconcile.ExpiryOf(row.Record[expires])
				row.Found = !ok || then.After(time.Now())
			}
			live := entries[i].Presence == store.Live
			if row.Found != live || live && !compare.Equal(row.Record, entries[i].Record) {
				differ = append(differ, batch[i])
			}
		}
	}
	return differ, nil
}
