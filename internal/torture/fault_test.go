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

// faults breaks one thing after the other, up to three at the same time.
type faults struct {
	w      *world
	random *rand.Rand
	count  map[string]int
}

type fault struct {
	name string
	run  func(ctx context.Context) error
}

func (f *faults) run(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(3)
	for pause(ctx, time.Duration(100+f.random.IntN(900))*time.Millisecond) {
		next := f.pick()
		f.count[next.name]++
		group.Go(func() error { return next.run(ctx) })
	}
	return group.Wait()
}

// pick draws everything now, in one goroutine: a seed gives one schedule.
func (f *faults) pick() fault {
	s := f.w.instances[f.random.IntN(len(f.w.instances))]
	short := time.Duration(200+f.random.IntN(1500)) * time.Millisecond
	long := time.Duration(1600+f.random.IntN(2000)) * time.Millisecond // longer than a lease
	wire, bad := s.wires()[f.random.IntN(3)], toxics[f.random.IntN(len(toxics))]
	server := f.random.IntN(3)
	d := f.w.daemons[f.random.IntN(len(f.w.daemons))]
	switch dice := f.random.IntN(100); {
	case dice < 5:
		return fault{"daemon killed", func(context.Context) error {
			d.signal(syscall.SIGKILL)
			return nil
		}}
	case dice < 10:
		return fault{"daemon frozen", func(ctx context.Context) error {
			d.freeze(ctx, 2*long)
			return nil
		}}
	case dice < 15:
		wire = d.wires[server]
		fallthrough
	case dice < 55:
		return fault{"wire " + bad.name, func(ctx context.Context) error {
			f.w.story.tell("fault", "%s %s for %s", wire.Name, bad.name, short)
			err := wire.spoil(ctx, bad, short)
			f.w.story.tell("fault", "%s is well again", wire.Name)
			return err
		}}
	case dice < 65:
		return fault{"instance killed", func(ctx context.Context) error {
			s.kill()
			pause(ctx, short/2)
			return f.revive(ctx, s)
		}}
	case dice < 80:
		return fault{"instance frozen", func(ctx context.Context) error {
			s.freeze(ctx, long)
			return nil
		}}
	case dice < 86:
		return fault{"instance restarted", func(ctx context.Context) error {
			s.stop()
			return f.revive(ctx, s)
		}}
	case dice < 93:
		return f.w.servers()[server].kill(f, short/2)
	default:
		return f.w.servers()[server].freeze(f, short)
	}
}

// revive tries until an instance runs again, also after the run.
func (f *faults) revive(ctx context.Context, s *instance) error {
	return await(context.WithoutCancel(ctx), time.Minute, "instance "+s.place+" to start again", func(ctx context.Context) error {
		err := s.run(ctx)
		if err != nil {
			pause(ctx, 200*time.Millisecond) // what it needs is down
		}
		return err
	})
}

// machine is a server process, whatever it serves.
type machine struct {
	name string
	is   interface {
		Kill() error
		Pause() error
		Resume() error
		Restart(context.Context) error
	}
}

func (w *world) servers() []machine {
	return []machine{{"legacy", w.legacy}, {"the state database", w.fleet}, {"Redis", w.redis}}
}

func (m machine) kill(f *faults, d time.Duration) fault {
	return fault{m.name + " killed", func(ctx context.Context) error {
		f.w.story.tell("fault", "kill -9 to %s for %s", m.name, d)
		if err := m.is.Kill(); err != nil {
			return err
		}
		pause(ctx, d)
		err := m.is.Restart(context.WithoutCancel(ctx))
		f.w.story.tell("fault", "%s is back", m.name)
		if err != nil {
			return fmt.Errorf("%s after kill -9: %w", m.name, err)
		}
		return nil
	}}
}

func (m machine) freeze(f *faults, d time.Duration) fault {
	return fault{m.name + " frozen", func(ctx context.Context) error {
		f.w.story.tell("fault", "%s is frozen for %s", m.name, d)
		if err := m.is.Pause(); err != nil {
			f.w.story.tell("fault", "%s could not be frozen: %v", m.name, err) // it is being killed
			return nil
		}
		pause(ctx, d)
		f.w.story.tell("fault", "%s goes on", m.name)
		if err := m.is.Resume(); err != nil {
			f.w.story.tell("fault", "%s could not be thawed: %v", m.name, err) // killed meanwhile
		}
		return nil
	}}
}
