package cases

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// sentinelWriter writes its own records, and reads each one back.
type sentinelWriter struct {
	acknowledged map[int64]string // the last name
	unknown      map[int64]string // of a write that failed after it: legacy may have it
	wrong        []string
	done         int
}

func (s *sentinelWriter) run(ctx context.Context, a *application, first int64) {
	s.acknowledged, s.unknown = map[int64]string{}, map[int64]string{}
	for n := 0; ctx.Err() == nil; n++ {
		pauseBriefly(ctx)
		id, name := first+int64(n%5), fmt.Sprintf("%d of %d", n, first)
		if err := a.write(id, name); err != nil {
			s.unknown[id] = name
			continue
		}
		s.done++
		s.acknowledged[id] = name
		delete(s.unknown, id)
		if v, found, err := a.reader.Get(a.w.ctx, id); err == nil && (!found || v.Name != name) {
			s.wrong = append(s.wrong, fmt.Sprintf("key %d reads %q (found: %v), %q was acknowledged", id, v.Name, found, name))
		}
	}
}

// onceRead returns what is wrong with the records that were written once.
func (a *application) onceRead(n int64) (wrong []string) {
	for id := range n {
		if got := a.read(21 + id); got != "written once" {
			wrong = append(wrong, fmt.Sprintf("key %d reads %q", 21+id, got))
		}
	}
	return wrong
}

// TestSentinelPromotesAReplica while instances read and write the target: the master ends, and the replica that takes its
// place has all that was acknowledged, or lacks the last writes. No read goes back in time; the daemon's look marks the
// migration unclean with the cause, reads come from legacy, and no step forward is taken until a full reconcile; that
// finds and repairs what is missing.
func TestSentinelPromotesAReplica(t *testing.T) {
	t.Parallel()
	for name, lags := range map[string]bool{"in sync": false, "that lags": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel, err := testenv.StartRedisSentinel(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := sentinel.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
			w := newWorld(t, options{targetURL: "redis+sentinel://" + sentinel.Addr() + "/" + sentinel.MasterName})
			l := w.leader()
			a := w.application(setup{marked: true})
			w.upto(phases.Cutover)
			for range 3 {
				w.check(l.look())
			}
			if st := w.status(); st.Unclean != "" || l.restarted != "" {
				t.Fatalf("before: %q, %q", st.Unclean, l.restarted)
			}
			if lags {
				w.check(sentinel.StopReplication(w.ctx))
			}
			ctx, stop := context.WithCancel(w.ctx)
			defer stop()
			writers := make([]sentinelWriter, 4)
			var running sync.WaitGroup
			for i := range writers {
				running.Go(func() { writers[i].run(ctx, a, int64(5*i+1)) })
			}
			// Beats that the replica that lags does not have.
			for range 3 {
				w.check(l.look())
			}
			const once = 5 // records that only the master has, of a replica that lags
			for id := range int64(once) {
				a.mustWrite(21+id, "written once")
			}
			if !lags { // replication is asynchronous
				w.check(sentinel.Replicated(w.ctx))
			}
			w.check(sentinel.FailOver(w.ctx))
			testenv.Await(w.t, "the daemon to find it", func() bool {
				_ = l.look() // a target that does not answer proves nothing
				return w.status().Unclean != ""
			})
			st := w.status()
			if st.Route.Phase != phases.DualRead || st.Route.Percent != phases.All {
				t.Errorf("reads come from the target, on %s", st.Route)
			}
			if wrong := a.onceRead(once); len(wrong) > 0 {
				t.Errorf("%d wrong reads, the first: %s", len(wrong), wrong[0])
			}
			if lags != strings.Contains(st.TargetLost, "is at beat") || !lags && !strings.Contains(st.Unclean, "run id") {
				t.Errorf("unclean: %q, lost: %q", st.Unclean, st.TargetLost)
			}
			if lags {
				var lost *app.TargetLostError
				if err := l.job.CheckTarget(w.ctx); !errors.As(err, &lost) {
					t.Errorf("a command would use the target: %v", err)
				}
				if claimed, err := l.job.Claim(w.ctx); err != nil || !claimed {
					t.Fatalf("claim: %v, %v", claimed, err)
				}
			}
			// The target takes writes again.
			testenv.Await(w.t, "writes to reach the promoted server", func() bool {
				a.mustWrite(26, "after the failover")
				return w.inTarget(26) == "after the failover"
			})
			stop()
			running.Wait()

			var closed *control.GatesClosedError
			if _, err := w.controller().Advance(w.ctx, unreconciled()); !errors.As(err, &closed) || !strings.Contains(err.Error(), "no-lost-queue") {
				t.Errorf("the advance to a target that was failed over: %v", err)
			}
			w.pass(time.Duration(w.m.Writing.NotAfter))
			run, _, err := l.job.Reconcile(w.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true, Repair: true, Force: "a test"}})
			w.check(err)
			if lags && run.Differences < once {
				t.Errorf("%d differences: the replica lacked %d records", run.Differences, once)
			}
			for i, s := range writers {
				for _, wrong := range s.wrong {
					t.Error(wrong)
				}
				if s.done == 0 {
					t.Errorf("writer %d has written nothing", i)
				}
				for id, name := range s.acknowledged {
					got := w.inLegacy(id)
					if got != name && got != s.unknown[id] {
						t.Errorf("key %d: legacy has %q, %q was acknowledged", id, got, name)
					}
				}
			}
			for id := range int64(26) {
				if a, b := w.inLegacy(id+1), w.inTarget(id+1); a != b {
					t.Errorf("key %d: repaired, legacy has %q and the target %q", id+1, a, b)
				}
			}
		})
	}
}
