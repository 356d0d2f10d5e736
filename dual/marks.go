package dual

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// markEvery is how often an instance looks at the target's marks.
const markEvery = 2 * time.Second

// marks is what an instance knows of the target's marks.
type marks struct {
	of       store.Marker // nil: they are not watched
	expected atomic.Pointer[store.Mark]
	lost     atomic.Pointer[lostTarget] // nil: the target had them when it last answered
}

// lostTarget is why the target is not used. The pointer's value does not change.
type lostTarget struct{ err error }

// markLostError is also ErrTargetLost, for which applications look in retain.
type markLostError struct{ error }

func (e *markLostError) Unwrap() error { return e.error }

// Is implements errors.Is.
func (e *markLostError) Is(target error) bool { return target == ErrTargetLost }

// expect sets the mark of the newest grant.
func (m *marks) expect(g *Grant) {
	if m.of != nil {
		m.expected.Store(&g.Mark)
	}
}

// err is the error of every operation on a target that lacks the migration's marks; nil if it has
// them, or has not answered. It costs one atomic load.
func (m *marks) err() error {
	if l := m.lost.Load(); l != nil {
		return l.err
	}
	return nil
}

// watchMarks looks at the target's marks while writes reach it.
func (i *Instance) watchMarks(ctx context.Context) {
	if i.marks.of == nil {
		return
	}
	ticker := time.NewTicker(markEvery)
	defer ticker.Stop()
	for {
		h := i.pinned.Load()
		i.lookAtMarks(ctx)
		select {
		case <-ctx.Done():
			return
		case <-h.over.Done():
		case <-ticker.C:
		}
	}
}

// lookAtMarks looks once. [mark-lost]: a target without the marks counts as failed; one that does
// not answer proves nothing.
func (i *Instance) lookAtMarks(ctx context.Context) {
	m := i.marks.expected.Load()
	if m == nil || m.Incarnation == "" || i.pinned.Load().writes == phases.WritesLegacy {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, i.writing().Deadline)
	err := i.marks.of.CheckMark(bounded, *m)
	cancel()
	was := i.marks.lost.Load()
	switch {
	case errors.Is(err, store.ErrMarkLost) && was == nil:
		i.marks.lost.Store(&lostTarget{&markLostError{err}})
		i.log.Error("the target lacks the migration's mark; it is not used", "route", i.Route().String(), "error", err, hint.Attr(err))
	case err == nil && was != nil:
		i.marks.lost.Store(nil)
		i.mu.Lock()
		for _, b := range i.guards {
			b.reset()
		}
		i.mu.Unlock()
		i.log.Warn("recovered: the target has the migration's mark", "route", i.Route().String())
	}
}

// withMarks returns a target that fails while it lacks the migration's marks.
func withMarks[K comparable, V any](i *Instance, t Target[K, V]) Target[K, V] {
	if i.marks.of == nil {
		return t
	}
	marked := markedTarget[K, V]{t, &i.marks}
	if batch, ok := t.(BatchTarget[K, V]); ok {
		return markedBatchTarget[K, V]{marked, batch}
	}
	return marked
}

type markedTarget[K comparable, V any] struct {
	Target[K, V]
	marks *marks
}

func (t markedTarget[K, V]) Get(ctx context.Context, key K) (Versioned[V], error) {
	if err := t.marks.err(); err != nil {
		return Versioned[V]{}, err
	}
	return t.Target.Get(ctx, key)
}

func (t markedTarget[K, V]) Apply(ctx context.Context, c Change[K, V], o ApplyOptions) (store.Result, error) {
	if err := t.marks.err(); err != nil {
		return store.Result{}, err
	}
	return t.Target.Apply(ctx, c, o)
}

type markedBatchTarget[K comparable, V any] struct {
	markedTarget[K, V]
	batch BatchTarget[K, V]
}

func (t markedBatchTarget[K, V]) ApplyAll(ctx context.Context, c []Change[K, V], o ApplyOptions) ([]store.Result, error) {
	if err := t.marks.err(); err != nil {
		return nil, err
	}
	return t.batch.ApplyAll(ctx, c, o)
}
