//go:build unix

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// faults injects one fault after the other, up to three at a time.
type faults struct {
	w      *world
	random *rand.Rand
	count  map[string]int
	made   int
	enough func() bool // a short run has done its minimum
}

type fault struct {
	name string
	run  func(ctx context.Context) error
}

// run injects faults while more returns true.
func (f *faults) run(ctx context.Context, more func() bool) error {
	var group errgroup.Group
	group.SetLimit(3)
	for more() && pause(ctx, time.Duration(50+f.random.IntN(500))*time.Millisecond) {
		next := f.pick()
		f.count[next.name]++
		f.made++
		group.Go(func() error { return next.run(ctx) })
	}
	return group.Wait()
}

// pick draws everything now, in one goroutine, so that a seed gives one schedule.
func (f *faults) pick() fault {
	s := f.w.instances[f.random.IntN(len(f.w.instances))]
	short := time.Duration(200+f.random.IntN(1500)) * time.Millisecond
	long := time.Duration(1600+f.random.IntN(2000)) * time.Millisecond // longer than a lease
	wire, bad := s.wires()[f.random.IntN(3)], toxics[f.random.IntN(len(toxics))]
	server := f.w.servers()[f.random.IntN(3)]
	d := f.w.daemons[f.random.IntN(len(f.w.daemons))]
	switch dice := f.random.IntN(100); {
	case dice < 4:
		return fault{"daemon killed", func(context.Context) error {
			d.signal(syscall.SIGKILL)
			return nil
		}}
	case dice < 8:
		return fault{"daemon frozen", func(ctx context.Context) error {
			d.freeze(ctx, 2*long)
			return nil
		}}
	case dice < 12:
		return f.wireFault("daemon's wire ", d.wires[f.random.IntN(3)], bad, short)
	case dice < 20:
		return f.wireFault("operator's wire ", f.w.operatorWires[f.random.IntN(3)], bad, short)
	case dice < 53:
		return f.wireFault("wire ", wire, bad, short)
	case dice < 62:
		return fault{"instance killed", func(ctx context.Context) error {
			s.kill()
			pause(ctx, short/2)
			return f.revive(ctx, s)
		}}
	case dice < 76:
		return fault{"instance frozen", func(ctx context.Context) error {
			s.freeze(ctx, long)
			return nil
		}}
	case dice < 82:
		return fault{"instance restarted", func(ctx context.Context) error {
			s.stop()
			return f.revive(ctx, s)
		}}
	case dice < 86:
		return fault{f.w.target.name + " dead", func(ctx context.Context) error { return f.w.killTarget(ctx, true) }}
	case dice < 89:
		return fault{f.w.target.name + " a black hole for all", func(ctx context.Context) error { return f.w.cutTarget(ctx, true) }}
	case dice < 95:
		return server.kills(f, short/2)
	default:
		return server.freezes(f, short)
	}
}

func (f *faults) wireFault(whose string, wire *wire, bad toxic, d time.Duration) fault {
	return fault{whose + bad.name, func(ctx context.Context) error {
		f.w.events.add("fault", "%s %s for %s", wire.Name, bad.name, d)
		err := wire.inject(ctx, bad, d)
		f.w.events.add("fault", "%s recovered", wire.Name)
		return err
	}}
}

// revive retries until an instance runs again, also after the run.
func (f *faults) revive(ctx context.Context, s *instance) error {
	return await(context.WithoutCancel(ctx), 3*time.Minute, "instance "+s.place+" to start again", func(ctx context.Context) error {
		err := s.run(ctx)
		if err != nil {
			pause(ctx, 200*time.Millisecond) // what it needs is down
		}
		return err
	})
}

func (m *machine) kills(f *faults, d time.Duration) fault {
	return fault{m.name + " killed", func(ctx context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		f.w.events.add("fault", "kill -9 to %s for %s", m.name, d)
		if err := m.Kill(); err != nil {
			return err
		}
		pause(ctx, d)
		err := m.Restart(context.WithoutCancel(ctx))
		f.w.events.add("fault", "%s restarted", m.name)
		if err != nil {
			return fmt.Errorf("%s after kill -9: %w", m.name, err)
		}
		return nil
	}}
}

func (m *machine) freezes(f *faults, d time.Duration) fault {
	return fault{m.name + " frozen", func(ctx context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		f.w.events.add("fault", "%s is frozen for %s", m.name, d)
		if err := m.Pause(); err != nil {
			return err
		}
		pause(ctx, d)
		f.w.events.add("fault", "%s resumes", m.name)
		return m.Resume()
	}}
}
