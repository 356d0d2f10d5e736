package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/stranglerfig/migrator/examples/storefront/shop"
)

// Products that a writer makes and deletes itself. Each writer has its own, so that a deletion
// and the next product with that id have one order.
const (
	ownFirst = 1_000_000_000
	ownEach  = 1_000_000
	ownUsed  = 40
)

type writer struct {
	g      *Generator
	random *rand.Rand
	own    int64
}

func newWriter(g *Generator, n int) *writer {
	return &writer{g: g, random: rand.New(rand.NewPCG(uint64(n), 1)), own: ownFirst + int64(n)*ownEach}
}

// write makes one write of a random kind.
func (w *writer) write(ctx context.Context) {
	r := w.random
	id, own := w.g.known(r), w.own+r.Int64N(ownUsed)
	if w.g.set.Products == 0 {
		id = own
	}
	switch n := r.IntN(100); {
	case n < 50:
		w.one(ctx, http.MethodPatch, id, w.patch())
	case n < 65 && w.g.set.Products > 1:
		w.reprice(ctx, id, 1+id%int64(w.g.set.Products))
	case n < 75:
		w.one(ctx, http.MethodPut, id, shop.Random(r, id))
	case n < 88:
		w.one(ctx, http.MethodPut, own, shop.Random(r, own))
	case n < 92:
		w.one(ctx, http.MethodPatch, own, w.patch())
	default:
		w.one(ctx, http.MethodDelete, own, nil)
	}
}

func (w *writer) patch() shop.Patch {
	made := shop.Random(w.random, 0)
	switch w.random.IntN(3) {
	case 0:
		return shop.Patch{Price: &made.Price}
	case 1:
		return shop.Patch{Name: &made.Name, Description: made.Description, Tags: &made.Tags}
	default:
		return shop.Patch{Attributes: &made.Attributes, Discontinued: &made.Discontinued, WeightKg: made.WeightKg}
	}
}

// one writes one product.
func (w *writer) one(ctx context.Context, method string, id int64, body any) {
	w.send(ctx, method, fmt.Sprintf("/products/%d", id), body, func(raw []byte) ([]Outcome, error) {
		p, err := parseProduct(raw)
		if method == http.MethodDelete {
			return []Outcome{{ID: id, Revision: p.Revision, Deleted: true}}, err
		}
		return []Outcome{{ID: id, Revision: p.Revision, Hash: p.Hash}}, err
	}, id)
}

// reprice writes two products at once.
func (w *writer) reprice(ctx context.Context, a, b int64) {
	prices := shop.Prices{}
	for _, id := range []int64{a, b} {
		prices.Prices = append(prices.Prices, shop.Reprice{ID: id, Price: shop.Random(w.random, 0).Price})
	}
	w.send(ctx, http.MethodPost, "/prices", prices, func(raw []byte) ([]Outcome, error) {
		var list struct {
			Products []json.RawMessage `json:"products"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err
		}
		var outcomes []Outcome
		for _, each := range list.Products {
			p, err := parseProduct(each)
			if err != nil {
				return nil, err
			}
			outcomes = append(outcomes, Outcome{ID: p.ID, Revision: p.Revision, Hash: p.Hash})
		}
		return outcomes, nil
	}, a, b)
}

// send makes a write and records its outcome in the ledger.
func (w *writer) send(ctx context.Context, method, path string, body any, parse func([]byte) ([]Outcome, error), ids ...int64) {
	g := w.g
	seen := g.ledger.BeginRead(ids[0]) // first: its own deletion must not excuse it
	entry := g.ledger.Begin(method == http.MethodDelete, ids...)
	began := time.Now()
	answer, err := g.send(ctx, method, g.url(w.random, "%s", path), body)
	var outcomes []Outcome
	success := err == nil && answer.status < 300
	if success {
		outcomes, err = parse(answer.body)
	}
	switch {
	case err != nil:
		entry.Unknown(false)
		g.failure(method, path, answer, err)
	case success:
		g.writeTimes.add(time.Since(began))
		entry.Acknowledged(outcomes...)
		for _, o := range outcomes {
			g.written(o.ID)
		}
		if w.random.IntN(4) == 0 { // checks whether the next reader sees it, on any instance
			g.read(ctx, w.random, ids[0])
		}
	case refused(answer):
		entry.Rejected()
		g.rejected.Add(1)
		if answer.status == http.StatusNotFound && len(ids) == 1 { // an answer too: there is no such product
			g.violation(seen.Saw(false, 0, 0))
		}
	default:
		entry.Unknown(true)
		g.failure(method, path, answer, nil)
	}
}

// refused reports whether the server answered that it has written nothing.
func refused(answer reply) bool {
	var p shop.Problem
	return json.Unmarshal(answer.body, &p) == nil && p.Written == "no"
}
