package shop

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// ErrNotFound means that there is no such product.
var ErrNotFound = errors.New("no such product")

// Catalogue is the shop's access to products. It reads through a dual.Reader and writes
// through a dual.Writer: the rest of the shop does not know which store answers, and which
// stores are written.
type Catalogue struct {
	instance *dual.Instance
	reader   *dual.Reader[int64, Product]
	writer   *dual.Writer[int64, Product]
	legacy   *legacyStore
	log      *slog.Logger
}

// newCatalogue connects the shop's product with the target's records, and both stores with the
// instance.
func newCatalogue(instance *dual.Instance, legacy *legacyStore, target store.Target, schema *record.Schema, rules []record.Rule, timeout time.Duration, shadow phases.Percent) (*Catalogue, error) {
	codec, err := dual.NewCodec[int64, Product](schema, nil, nil)
	if err != nil {
		return nil, err
	}
	comparer, err := record.NewComparer(schema, rules)
	if err != nil {
		return nil, err
	}
	products := dual.Bind(target, codec)
	c := &Catalogue{instance: instance, legacy: legacy, log: slog.New(slog.DiscardHandler)}
	c.reader, err = dual.NewReader(dual.ReaderConfig[int64, Product]{
		Instance: instance, Legacy: legacy.get, Target: products, Key: codec.Key,
		// The same rules as reconcile's, so that both agree on what differs.
		Compare:       dual.CompareBy(codec, comparer),
		TargetTimeout: timeout, ShadowPercent: shadow,
	})
	if err != nil {
		return nil, err
	}
	c.writer, err = dual.NewWriter(dual.WriterConfig[int64, Product]{
		Instance: instance, Legacy: legacy.get, Target: products, Key: codec.Key,
		Uncertain: isUncertain,
		Corrupt:   func(p Product) Product { p.Name += " (spoiled)"; return p },
	})
	return c, err
}

// Get returns one product, or ErrNotFound.
func (c *Catalogue) Get(ctx context.Context, id int64) (Product, error) {
	p, found, err := c.reader.Get(ctx, id)
	if err == nil && !found {
		err = ErrNotFound
	}
	return p, err
}

// Put creates a product, or replaces a whole one. made reports which.
func (c *Catalogue) Put(ctx context.Context, p Product) (stored Product, made bool, err error) {
	at := now() // computed here: an edit may run more than once
	if err := p.normalise(); err != nil {
		return p, false, err
	}
	done, err := c.change(ctx, map[int64]edit{p.ID: func(current *Product) (*Product, error) {
		next := p
		next.UpdatedAt, next.Revision = at, at.Time.UnixMicro()
		if current != nil {
			next.Revision = current.Revision + 1
			next.CreatedAt = current.CreatedAt
		} else if !next.CreatedAt.Valid {
			next.CreatedAt = at
		}
		return &next, nil
	}})
	if err != nil {
		return p, false, err
	}
	return *done[p.ID].after, done[p.ID].before == nil, nil
}

// Patch changes some fields of a product.
func (c *Catalogue) Patch(ctx context.Context, id int64, patch Patch) (Product, error) {
	done, err := c.change(ctx, map[int64]edit{id: revise(patch, now())})
	if err != nil {
		return Product{}, err
	}
	return *done[id].after, nil
}

// Reprice changes the prices of several products: all or none of them while legacy has
// authority, each on its own after that (a target has no transaction).
func (c *Catalogue) Reprice(ctx context.Context, prices []Reprice) ([]Product, error) {
	at, edits := now(), map[int64]edit{}
	for _, p := range prices {
		edits[p.ID] = revise(Patch{Price: &p.Price}, at)
	}
	done, err := c.change(ctx, edits)
	if err != nil {
		return nil, err
	}
	products := make([]Product, 0, len(done))
	for _, p := range prices {
		products = append(products, *done[p.ID].after)
	}
	return products, nil
}

// Delete removes a product and returns its last state.
func (c *Catalogue) Delete(ctx context.Context, id int64) (Product, error) {
	done, err := c.change(ctx, map[int64]edit{id: func(current *Product) (*Product, error) {
		if current == nil {
			return nil, ErrNotFound
		}
		return nil, nil
	}})
	if err != nil {
		return Product{}, err
	}
	return *done[id].before, nil
}

// revise returns the edit of a patch.
func revise(patch Patch, at timestamp) edit {
	return func(current *Product) (*Product, error) {
		if current == nil {
			return nil, ErrNotFound
		}
		next := patch.apply(*current)
		next.UpdatedAt, next.Revision = at, current.Revision+1
		return &next, next.normalise()
	}
}

// changed is the result of an edit; nil: there is no product.
type changed struct{ before, after *Product }

// change is the one place where products are written. The same edits serve both forms of a
// write: in legacy under the row's lock, and once legacy is fenced on the target's record, by
// compare-and-set.
func (c *Catalogue) change(ctx context.Context, edits map[int64]edit) (map[int64]changed, error) {
	done := make(map[int64]changed, len(edits))
	noted := make(map[int64]edit, len(edits))
	keys := make([]int64, 0, len(edits))
	for id, f := range edits {
		keys = append(keys, id)
		noted[id] = func(current *Product) (*Product, error) {
			next, err := f(current)
			done[id] = changed{current, next} // the last of several attempts counts
			return next, err
		}
	}
	err := c.writer.Write(ctx, dual.Op[int64, Product]{
		Legacy: func(ctx context.Context) ([]dual.Change[int64, Product], error) {
			changes, err := c.legacy.edit(ctx, noted)
			for i := range changes {
				if !changes[i].Deleted {
					done[changes[i].Key] = changed{done[changes[i].Key].before, &changes[i].Value}
				}
			}
			return changes, err
		},
		Keys: keys,
		Update: func(id int64, current Product, found bool) (Product, bool, error) {
			var before *Product
			if found {
				before = &current
			}
			next, err := noted[id](before)
			if err != nil || next == nil {
				return Product{}, true, err
			}
			return *next, false, nil
		},
	})
	return done, err
}
