package load

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/examples/storefront/shop"
)

// Config is a load. URLs is required, the rest has defaults.
type Config struct {
	URLs     []string // of the instances; each request goes to one at random
	Products int      // products 1 to Products were made by shop.Seed
	Rate     float64  // requests per second, a quarter of them writes; 0: unlimited
	Writers  int      // at once; default 8
	Readers  int      // at once; default 8
	// Out receives each acknowledged write as a line of JSON; nil: not written.
	Out io.Writer
}

// Generator makes requests and checks their answers. Call Run once, then Verify.
type Generator struct {
	set    Config
	client *http.Client
	ledger *Ledger

	recent [256]atomic.Int64 // the last written products
	wrote  atomic.Uint64

	readTimes, writeTimes          histogram
	rejected, failedReads          atomic.Int64
	stale, wrong, lost, unverified atomic.Int64
	verified                       atomic.Int64
	mu                             sync.Mutex
	violations, failures           []string
}

// maxViolations bounds the violations that are kept, and the failures.
const maxViolations = 20

// New prepares a load.
func New(c Config) *Generator {
	if c.Writers <= 0 {
		c.Writers = 8
	}
	if c.Readers <= 0 {
		c.Readers = 8
	}
	g := &Generator{set: c, client: newClient(2 * (c.Writers + c.Readers)), ledger: NewLedger()}
	g.ledger.out = c.Out
	for id := range c.Products {
		g.ledger.Expect(int64(id+1), shop.SeedRevision)
	}
	return g
}

// Run makes requests until ctx ends, and returns when the last one is answered.
func (g *Generator) Run(ctx context.Context) error {
	reads, writes := rate.NewLimiter(rate.Inf, 1), rate.NewLimiter(rate.Inf, 1)
	if g.set.Rate > 0 {
		reads = rate.NewLimiter(rate.Limit(g.set.Rate*3/4), 8)
		writes = rate.NewLimiter(rate.Limit(g.set.Rate/4), 8)
	}
	// A request that has begun finishes: to cancel it would leave its outcome unknown, and
	// unknown outcomes weaken the check.
	requests := context.WithoutCancel(ctx)
	var group errgroup.Group
	for n := range g.set.Writers {
		w := newWriter(g, n)
		group.Go(func() error {
			for writes.Wait(ctx) == nil {
				w.write(requests)
			}
			return nil
		})
	}
	for n := range g.set.Readers {
		random := rand.New(rand.NewPCG(uint64(n), 2))
		group.Go(func() error {
			for reads.Wait(ctx) == nil {
				g.read(requests, random, g.someProduct(random))
			}
			return nil
		})
	}
	err := group.Wait()
	// A connection that was dialled and never used would delay the end of a server by five
	// seconds.
	g.client.CloseIdleConnections()
	return err
}

func (g *Generator) url(random *rand.Rand, path string, args ...any) string {
	return g.set.URLs[random.IntN(len(g.set.URLs))] + fmt.Sprintf(path, args...)
}

// someProduct returns a recently written product half of the time: an old state would be
// visible there.
func (g *Generator) someProduct(random *rand.Rand) int64 {
	if n := g.wrote.Load(); n > 0 && random.IntN(2) == 0 {
		return g.recent[random.Uint64N(min(n, uint64(len(g.recent))))].Load()
	}
	return g.known(random)
}

// known returns one of the seeded products, a few of them far more often than the others.
func (g *Generator) known(random *rand.Rand) int64 {
	const hot = 64
	n := max(g.set.Products, 1)
	if random.IntN(3) == 0 {
		n = min(n, hot)
	}
	return 1 + random.Int64N(int64(n))
}

func (g *Generator) written(id int64) {
	n := g.wrote.Add(1) - 1
	g.recent[n%uint64(len(g.recent))].Store(id)
}

// violation records an answer that breaks a promise.
func (g *Generator) violation(v Verdict, detail string) {
	switch v {
	case Stale:
		g.stale.Add(1)
	case Wrong:
		g.wrong.Add(1)
	default:
		return
	}
	g.note(string(v) + ": " + detail)
}

func (g *Generator) note(text string) { g.keep(&g.violations, text) }

// failure records why a request failed.
func (g *Generator) failure(method, url string, answer reply, err error) {
	if err != nil {
		g.keep(&g.failures, fmt.Sprintf("%s %s: %v", method, url, err))
		return
	}
	g.keep(&g.failures, fmt.Sprintf("%s %s: status %d: %s", method, url, answer.status, strings.TrimSpace(string(answer.body))))
}

func (g *Generator) keep(list *[]string, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(*list) < maxViolations {
		*list = append(*list, text)
	}
}
