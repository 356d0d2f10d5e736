package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/examples/storefront/shop"
)

// fault is a defect of a shop.
type fault string

const (
	none     fault = "none"
	fails    fault = "answers 503 to some writes, half of which it has made"
	stale    fault = "sometimes shows what a product was before its last write"
	loses    fault = "acknowledges some writes without making them"
	revives  fault = "sometimes shows a product that is deleted"
	mixes    fault = "shows the last revision with an older content"
	unsteady fault = "breaks connections off"
)

// memoryShop is a storefront in memory, correct except for its fault.
type memoryShop struct {
	fault fault

	mu     sync.Mutex
	random *rand.Rand
	now    map[int64]shop.Product
	before map[int64]shop.Product
}

func newMemoryShop(f fault, products int) *memoryShop {
	s := &memoryShop{fault: f, random: rand.New(rand.NewPCG(5, 6)), now: map[int64]shop.Product{}, before: map[int64]shop.Product{}}
	for id := range int64(products) {
		p := shop.Random(s.random, id+1)
		p.Revision = shop.SeedRevision
		s.now[id+1] = p
	}
	return s
}

func (s *memoryShop) sometimes(f fault) bool { return s.fault == f && s.random.IntN(20) == 0 }

func (s *memoryShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sometimes(unsteady) {
		panic(http.ErrAbortHandler)
	}
	if r.URL.Path == "/prices" {
		var in shop.Prices
		_ = json.NewDecoder(r.Body).Decode(&in)
		var out shop.Products
		all := true
		for _, p := range in.Prices {
			product, made := s.write(p.ID, func(at shop.Product) shop.Product { at.Price = p.Price; return at })
			out.Products, all = append(out.Products, product), all && made
		}
		s.confirm(w, out, all)
		return
	}
	var id int64
	_, _ = fmt.Sscanf(r.URL.Path, "/products/%d", &id)
	current, found := s.now[id]
	switch {
	case r.Method == http.MethodGet:
		s.get(w, id, current, found)
		return
	case r.Method == http.MethodPut:
		var p shop.Product
		_ = json.NewDecoder(r.Body).Decode(&p)
		stored, made := s.write(id, func(shop.Product) shop.Product { return p })
		s.confirm(w, stored, made)
	case !found:
		reply404(w)
	case r.Method == http.MethodPatch:
		stored, made := s.write(id, func(at shop.Product) shop.Product { at.Name += "!"; return at })
		s.confirm(w, stored, made)
	case r.Method == http.MethodDelete:
		made := !s.sometimes(fails) && !s.sometimes(loses)
		if made {
			s.before[id] = current
			delete(s.now, id)
		}
		s.confirm(w, current, made)
	}
}

func (s *memoryShop) write(id int64, f func(shop.Product) shop.Product) (next shop.Product, made bool) {
	current, found := s.now[id]
	next = f(current)
	next.ID, next.Revision = id, time.Now().UnixMicro()
	if found {
		next.Revision = current.Revision + 1
	}
	if s.sometimes(loses) || s.sometimes(fails) {
		return next, false
	}
	if found {
		s.before[id] = current
	}
	s.now[id] = next
	return next, true
}

// confirm answers a write. A shop with the fault fails confirms only what it has made; one
// with the fault loses confirms all.
func (s *memoryShop) confirm(w http.ResponseWriter, v any, made bool) {
	if s.fault == fails && (!made || s.sometimes(fails)) {
		w.WriteHeader(http.StatusServiceUnavailable)
		v = shop.Problem{Error: "out of order", Written: "unknown"}
	}
	_ = json.NewEncoder(w).Encode(v)
}

func (s *memoryShop) get(w http.ResponseWriter, id int64, current shop.Product, found bool) {
	before, had := s.before[id]
	if had && (found && s.sometimes(stale) || !found && s.sometimes(revives)) {
		current, found = before, true
	}
	if had && found && s.sometimes(mixes) {
		before.Revision = current.Revision
		current = before
	}
	if !found {
		reply404(w)
		return
	}
	_ = json.NewEncoder(w).Encode(current)
}

func reply404(w http.ResponseWriter) {
	w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(w).Encode(shop.Problem{Error: "no such product", Written: "no"})
}

func TestLedgerDetectsEachFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault fault
		want  func(Report) bool
	}{
		{none, func(r Report) bool { return r.OK() && r.Failed == 0 && r.FailedReads == 0 && r.Rejected > 0 }},
		{fails, func(r Report) bool { return r.OK() && r.Failed > 0 }},
		{unsteady, func(r Report) bool {
			// All reads may succeed: the HTTP client retries them by itself.
			return r.Lost == 0 && r.Stale == 0 && r.Wrong == 0 && r.Failed > 0
		}},
		{stale, func(r Report) bool { return r.Stale > 0 }},
		{revives, func(r Report) bool { return r.Stale+r.Lost > 0 }},
		{loses, func(r Report) bool { return r.Stale > 0 && r.Lost > 0 }},
		{mixes, func(r Report) bool { return r.Wrong > 0 }},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			const products = 50
			server := httptest.NewServer(newMemoryShop(c.fault, products))
			defer server.Close()
			g := New(Config{URLs: []string{server.URL, server.URL}, Products: products, Writers: 4, Readers: 4, Rate: 4000})
			mark := g.Mark()
			runUntil(t, g, func(r Report) bool { return r.Acknowledged >= 600 && r.Reads >= 1000 })
			if rates := g.Since(mark); rates.Reads == 0 || rates.Writes == 0 || rates.ReadP99 == 0 {
				t.Errorf("no rates: %+v", rates)
			}
			if err := g.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := g.Report()
			if !c.want(r) || r.Acknowledged < 50 || r.Reads < 100 || r.Verified < products*9/10 {
				t.Errorf("a shop whose fault is %q: %+v", c.fault, r)
			}
			if r.OK() == (len(r.Violations) > 0) && r.Unverified == 0 {
				t.Errorf("OK is %v with violations %q", r.OK(), r.Violations)
			}
		})
	}
}

// runUntil runs the load until it has done enough.
func runUntil(t *testing.T, g *Generator, enough func(Report) bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for !enough(g.Report()) {
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("it ended by itself: %v", err)
		case <-deadline:
			t.Fatalf("it does too little: %+v", g.Report())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableProductsAreNotVerified(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer server.Close()
	g := New(Config{URLs: []string{server.URL}, Products: 3})
	if err := g.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := g.Report(); r.Unverified != 3 || r.OK() {
		t.Errorf("%+v", r)
	}
}

func TestQuantilesAreWithinOneBucket(t *testing.T) {
	t.Parallel()
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	c := h.counts()
	for _, q := range []struct {
		of   float64
		want time.Duration
	}{{0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}, {0, time.Millisecond}} {
		if got := c.quantile(q.of); got < q.want || float64(got) > float64(q.want)*1.1 {
			t.Errorf("quantile %v: %v, want %v to 10 %% above", q.of, got, q.want)
		}
	}
	h.add(time.Hour)
	if got := h.counts().since(c).total(); got != 1 {
		t.Errorf("%d since, want 1", got)
	}
	if got := (counts{}).quantile(0.99); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 999, 1000, 1234567, -1000, -999} {
		if got, err := strconv.ParseInt(stripCommas(Count(n)), 10, 64); err != nil || got != n {
			t.Errorf("Count(%d) = %q", n, Count(n))
		}
	}
	if Count(1234567) != "1,234,567" || Count(-1000) != "-1,000" {
		t.Error(Count(1234567), Count(-1000))
	}
}

func stripCommas(s string) (out string) {
	for _, r := range s {
		if r != ',' {
			out += string(r)
		}
	}
	return out
}
