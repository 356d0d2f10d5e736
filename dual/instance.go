package dual

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// Instance is one process's part in one migration: a lease, the route that came with
// it, and the operations in flight. It is safe for concurrent use.
type Instance struct {
	fleet    Fleet
	identity Identity
	log      *slog.Logger
	clock    func() time.Duration
	set      Config
	own      Writing // what the application set, without defaults
	shards   int

	pinned   atomic.Pointer[pinnedRoute]
	fault    atomic.Pointer[activeFault] // nil: none
	marks    marks
	reads    sampling
	writes   sampling
	wake     chan struct{} // Run has something to check
	asked    atomic.Bool   // an operation needs the present route now
	notified atomic.Int64  // the highest epoch of a notification
	running  atomic.Bool
	other    atomic.Bool // what is applied is not what this process moves
	behind   atomic.Bool // the applied settings could not be read
	count    counters

	queue          jobQueue                   // background writes
	checks         chan func(context.Context) // sampled read-backs of writes
	checksLogged   oncePerMinute
	readBackLogged oncePerMinute
	pending        pending  // changes still to be journaled
	degraded       degraded // records that this instance reads from legacy
	journal        breaker
	windows        windows

	mu           sync.Mutex
	retired      []*pinnedRoute // replaced, oldest first, until they have drained
	past         tally          // of the drained ones
	over         []*pinnedRoute // drained, with counts that are not reported yet
	acknowledged int64          // as the fleet last received it
	previous     string         // the lease that the state granted last
	clocks       []*targetClock
	guards       []namedBreaker // of the target
	unclean      bool           // a background write was abandoned: the lease must lapse
}

// job is one background write; it releases its own pin.
type job interface {
	do(ctx context.Context)
}

// Join takes a lease and reads the route. It must succeed before the first operation and
// starts nothing: call Run before the lease expires.
func Join(ctx context.Context, c Config) (*Instance, error) {
	own := c.Writing
	if err := c.defaults(); err != nil {
		return nil, err
	}
	i := &Instance{
		own:   own,
		fleet: c.Fleet, identity: c.Identity, log: c.Logger, clock: c.Clock, set: c,
		shards: shardCount(), wake: make(chan struct{}, 1),
		checks: make(chan func(context.Context), readBackQueue),
	}
	i.marks.of = c.Marks
	if i.identity.Moves == "" {
		i.identity.Moves = c.Moves
	}
	i.queue.init()
	i.pending.init()
	i.windows.init(c.Fleet, i.clock())
	i.reads.skip.Store(maxSkip)
	i.writes.skip.Store(maxSkip)
	// [lease-own-clock]: read before the request is sent.
	sent := i.clock()
	g, err := i.fleet.Join(ctx, i.identity)
	if err != nil {
		return nil, fmt.Errorf("join the migration: %w", err)
	}
	if err := acceptable(&g); err != nil {
		// No operation has begun under the lease, so it is ended: left to expire, it would block
		// advances until an eviction.
		_ = i.fleet.Leave(context.WithoutCancel(ctx), g.Lease)
		return nil, fmt.Errorf("join the migration: %w", err)
	}
	w, err := i.applied(ctx)
	if err != nil {
		_ = i.fleet.Leave(context.WithoutCancel(ctx), g.Lease)
		return nil, fmt.Errorf("join the migration: %w", err)
	}
	i.enter(g, sent, w)
	i.lookAtMarks(ctx) // before the first operation
	return i, nil
}

// shardCount is a power of two, a multiple of the number of processors.
func shardCount() int {
	n := 16
	for n < 4*runtime.GOMAXPROCS(0) && n < 256 {
		n *= 2
	}
	return n
}

// acceptable refuses a phase that this program does not know (it would be treated as one
// that reads and writes legacy alone) and sets the defaults of the lease's timing.
func acceptable(g *Grant) error {
	if !g.Route.Phase.Passing() {
		// [known-phase]: the zero Behaviour reads and writes legacy alone. An old program that took
		// it for the new phase would write past the target.
		if _, err := phases.ParsePhase(string(g.Route.Phase)); err != nil {
			return hint.Errorf(hint.Hint{Text: "build it with the newest migrator"}, "%w: this program is older than the migration's state", err)
		}
	}
	if g.TTL <= 0 {
		g.TTL = phases.LeaseTTL
	}
	if g.Renew <= 0 || g.Renew > g.TTL/2 {
		g.Renew = g.TTL / phases.RenewShare
	}
	return nil
}

// Route is the route that operations now begin under.
func (i *Instance) Route() phases.Route { return i.pinned.Load().route }

// Writing returns the settings of writes that operations now begin with: those that are applied, but
// for what Config.Writing sets.
func (i *Instance) Writing() Writing { return *i.writing() }

// Lapsed reports whether the lease has expired by the instance's own clock. From
// shadow-write to grace a lapsed instance reads legacy and writes both stores.
func (i *Instance) Lapsed() bool { return !i.pinned.Load().lease.valid() }

// Name is the instance's name in the fleet.
func (i *Instance) Name() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.identity.Instance
}

// enter begins a new lease.
func (i *Instance) enter(g Grant, sent time.Duration, w Writing) {
	i.mu.Lock()
	if g.Instance != "" {
		i.identity.Instance = g.Instance
	}
	// A first lease has nothing in flight. One that follows another starts at the other's epoch,
	// until this instance acknowledges a later one.
	// [rejoin-epoch]: -1 makes the next renewal acknowledge the epoch that this process has really
	// reached.
	if i.acknowledged = g.Route.Epoch; i.previous != "" {
		i.acknowledged = -1
	}
	i.previous = g.Lease
	i.mu.Unlock()
	i.marks.expect(&g)
	i.noteOther(&g)
	i.swap(newPinnedRoute(i, g, newLease(g.Lease, i.clock, sent, g.TTL), w))
}

// noteOther says once that another description is applied than this process moves.
func (i *Instance) noteOther(g *Grant) {
	if i.other.Swap(g.OtherMoves) != g.OtherMoves && g.OtherMoves {
		// [fields-acknowledged]: the state withholds the acknowledgment of the epoch in which it was applied.
		i.log.Warn("this instance moves something else than what is applied: restart it", "epoch", g.Route.Epoch)
	}
}

// swap makes h the route of all operations that begin from now on.
func (i *Instance) swap(h *pinnedRoute) {
	rolledBack := announceRollback(i.pinned.Load(), h)
	i.mu.Lock()
	// [pinned-route]: one atomic pointer to an immutable route: an operation has the old one or the
	// new one, never parts of both.
	old := i.pinned.Swap(h)
	if old != nil {
		old.rolledBack = rolledBack
		i.retired = append(i.retired, old)
		if h.route.ReadsTarget() && !old.route.ReadsTarget() {
			// What failed before reads came from the target must not take them back.
			for _, b := range i.guards {
				b.reset()
			}
		}
	}
	i.mu.Unlock()
	if !h.route.ReadsTarget() || !h.fallback {
		// The route reads legacy, or the target alone: in neither is there a key to be read from
		// the other store.
		i.degraded.clear()
	}
	if old != nil {
		// Last: an operation that waits for the end of the old route then finds the new one.
		old.cancel()
	}
}

// reached is the epoch that the instance has reached with all its operations.
func (i *Instance) reached() int64 {
	epoch, rolledBack := i.drain()
	for _, end := range rolledBack {
		end(Result{Outcome: telemetry.OK})
	}
	return epoch
}

// drain retires the routes that have drained. It returns the epoch that the instance has reached,
// and the ends of rollbacks that have been followed.
func (i *Instance) drain() (epoch int64, rolledBack []func(Result)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	// [drain-reads], [drain-writes], [drain-queue]: oldest first. An epoch is reached only when no
	// operation under any older one is left.
	for len(i.retired) > 0 && i.retired[0].drained() {
		h := i.retired[0]
		i.retired = i.retired[1:]
		i.past.add(h)
		i.over = append(i.over, h)
		if h.rolledBack != nil {
			rolledBack = append(rolledBack, h.rolledBack)
		}
	}
	if len(i.retired) > 0 {
		// The oldest route with operations: a later one may have drained already, but the fleet must
		// continue to count this one as live.
		return i.retired[0].route.Epoch, rolledBack
	}
	return i.pinned.Load().route.Epoch, rolledBack
}

// wakeUp makes Run check whether there is something to do.
func (i *Instance) wakeUp() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// ask makes Run request the route now.
func (i *Instance) ask() {
	i.asked.Store(true)
	i.wakeUp()
}

// guard sets up a breaker of the target.
func (i *Instance) guard(b *breaker, name string) {
	b.most = i.set.BreakerPause
	i.mu.Lock()
	i.guards = append(i.guards, namedBreaker{b, name})
	i.mu.Unlock()
}

// follow keeps a target's clock sampled while Run runs.
func (i *Instance) follow(c *targetClock) {
	i.mu.Lock()
	i.clocks = append(i.clocks, c)
	i.mu.Unlock()
}
