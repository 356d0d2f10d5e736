package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// TargetLostError refuses to use a target that lacks the migration's mark: another server, one that
// was emptied, or one that went back to an earlier state.
type TargetLostError struct {
	Migration string
	error
}

func (e *TargetLostError) Unwrap() error { return e.error }

// Hint implements hint.Hinter.
func (e *TargetLostError) Hint() hint.Hint {
	return store.MarkHint(e.Migration, e.Error())
}

// CheckTarget looks at the target's marks: nothing is read from, compared with or written to a
// target that lacks them. *TargetLostError if it does.
func (j *Job) CheckTarget(ctx context.Context) error {
	marker, ok := j.Target.(store.Marker)
	if !ok {
		return nil
	}
	m, _, err := j.State.Mark(ctx, j.Config.Name)
	if err != nil || m.Incarnation == "" {
		return err
	}
	if err = marker.CheckMark(ctx, m); errors.Is(err, store.ErrMarkLost) {
		return &TargetLostError{j.Config.Name, err}
	}
	if err != nil {
		if err := j.ReachTarget(ctx); err != nil {
			return err
		}
	}
	return hint.With(err, hint.Hint{Do: hint.Doctor})
}

// claimTarget places the migration's mark where it has none, and checks it where it has one.
func claimTarget(ctx context.Context, st *state.Store, name string, target store.Target, takeOver bool) error {
	marker, ok := target.(store.Marker)
	if !ok {
		return nil
	}
	m, _, err := st.Mark(ctx, name)
	if err != nil {
		return err
	}
	if m.Incarnation == "" {
		if m, err = st.PlaceMark(ctx, name, "", rand.Text(), ""); err != nil {
			return err
		}
	}
	// [mark-first]: until a beat is confirmed nothing rests on the mark, so it may be placed again.
	if m.Beat == 0 {
		return place(ctx, st, name, marker, m, takeOver)
	}
	switch err = marker.CheckMark(ctx, m); {
	case takeOver && errors.Is(err, store.ErrOwned):
		if err := refuseWhileRead(ctx, st, name); err != nil {
			return err
		}
		if m, err = st.PlaceMark(ctx, name, m.Incarnation, rand.Text(), "the target's keys were taken from another migration"); err != nil {
			return err
		}
		return place(ctx, st, name, marker, m, true)
	case errors.Is(err, store.ErrMarkLost):
		return &TargetLostError{name, err}
	}
	return err
}

// place places a mark that the state has, and makes the first two beats: the second one notes in
// the state that the target had the first.
func place(ctx context.Context, st *state.Store, name string, marker store.Marker, m store.Mark, takeOver bool) error {
	failpoint.Here("mark.placed")
	if err := marker.Claim(ctx, m, takeOver); err != nil {
		return err
	}
	failpoint.Here("mark.claimed")
	m, _, err := beat(ctx, st, name, marker, m)
	if err == nil {
		_, _, err = beat(ctx, st, name, marker, m)
	}
	return err
}

// beat writes the next beat: first into the state, then into the target. It returns the mark with
// the beat that the whole target has, and whether the state was found to have gone back.
func beat(ctx context.Context, st *state.Store, name string, marker store.Marker, m store.Mark) (_ store.Mark, wentBack bool, err error) {
	m, next, err := st.NextBeat(ctx, name, m)
	if err != nil || next == 0 {
		return m, false, err
	}
	failpoint.Here("mark.beat")
	err = marker.Beat(ctx, m, next)
	var ahead *store.BeatAheadError
	switch {
	case err == nil:
		m.Beat = next
	case errors.As(err, &ahead):
		// [beat-first]: the state has each beat before the target. If it has given out less, or this
		// very one before, it has lost transactions; else another leader was faster.
		wentBack, err = st.RaiseBeat(ctx, name, m, ahead.Beat, ahead.Beat == next)
	}
	return m, wentBack, err
}

// WatchTarget makes a beat, and returns the mark to be passed to the next call. A target without the
// mark is recorded as lost, and reads go back to legacy where that can answer;
// *TargetLostError then, and on each later call until the target has the mark, or is claimed.
// restarted is how it may have lost what it took since the last beat, which is recorded too.
func (j *Job) WatchTarget(ctx context.Context, had store.Mark) (m store.Mark, restarted string, err error) {
	marker, ok := j.Target.(store.Marker)
	if !ok {
		return had, "", nil
	}
	name := j.Config.Name
	m, lost, err := j.State.Mark(ctx, name)
	switch {
	case err != nil:
		return had, "", err
	case m.Incarnation == "", m.Beat == 0 && lost == "" && had.Incarnation != m.Incarnation:
		return m, "", claimTarget(ctx, j.State, name, j.Target, false)
	case had.Incarnation == m.Incarnation:
		m.Beat = max(m.Beat, had.Beat)
	}
	if lost != "" {
		if err = marker.CheckMark(ctx, m); err == nil {
			_, err = j.State.FindTarget(ctx, name, m)
		}
	}
	if err == nil {
		m, _, err = beat(ctx, j.State, name, marker, m)
	}
	switch {
	case err == nil:
		restarted, err = j.suspectTarget(ctx)
		return m, restarted, err
	case !errors.Is(err, store.ErrMarkLost):
		return m, "", err
	}
	lostError := &TargetLostError{name, err}
	// [mark-lost]: recorded first: from then on retain takes no write, and evidence from before is void.
	if _, err := j.State.LoseTarget(ctx, name, m, err.Error()); err != nil {
		return m, "", err
	}
	failpoint.Here("mark.lost")
	if err := j.Controller(j.Config, nil).ReadLegacy(ctx, err.Error()); err != nil {
		return m, "", fmt.Errorf("%w; and reads could not be rolled back: %w", lostError, err)
	}
	return m, "", lostError
}

// suspectTarget looks whether a server of the target was restarted or failed over. The mark shows
// what it lost since the last beat; of the moment after it only the restart is known. So the
// evidence is void, and reads return to legacy where that can answer.
func (j *Job) suspectTarget(ctx context.Context) (restarted string, err error) {
	return j.lookForLoss(ctx, state.Target, j.Target, func(why string) error {
		if err := j.State.DoubtTarget(ctx, j.Config.Name, why); err != nil {
			return err
		}
		failpoint.Here("mark.suspected")
		return j.Controller(j.Config, nil).ReadLegacy(ctx, why)
	})
}

// whole makes a beat, and looks whether a server of the target was restarted.
func (j *Job) whole(ctx context.Context) error {
	marker, ok := j.Target.(store.Marker)
	if !ok {
		return nil
	}
	m, _, err := j.State.Mark(ctx, j.Config.Name)
	if err != nil || m.Incarnation == "" {
		return err
	}
	if j.beaten.Incarnation == m.Incarnation {
		m.Beat = max(m.Beat, j.beaten.Beat)
	}
	m, wentBack, err := beat(ctx, j.State, j.Config.Name, marker, m)
	switch {
	case errors.Is(err, store.ErrMarkLost):
		return &TargetLostError{j.Config.Name, err}
	case err != nil:
		return err
	case wentBack:
		// [reclaim-scan]: the return journal may lack keys, which a return that began before would not
		// search for.
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "the state database has lost transactions: the target has a later beat")
	}
	j.beaten = m
	restarted, err := j.suspectTarget(ctx)
	if err == nil && restarted != "" {
		err = hint.Errorf(hint.Hint{Do: hint.Retry}, "%s", restarted)
	}
	return err
}

// refuseWhileRead refuses to place a mark on a target that has lost data while reads come from it,
// which could come from legacy. It does not where the state has lost transactions: the rollback may wait
// for a route that instances reported, and the reclaim that ends that needs a target with a mark.
func refuseWhileRead(ctx context.Context, st *state.Store, name string) error {
	status, err := st.Status(ctx, name)
	if p := status.Route.Phase; err == nil && status.StateLoss == nil && (p == phases.Cutover || p == phases.Grace) {
		err = refuseHint(hint.Hint{Do: hint.Rollback}, "reads of %s come from the target in %s, and it has lost data", name, status.Route)
	}
	return err
}

// HasMark reports whether the target has the migration's mark; an error if it is another's.
func (j *Job) HasMark(ctx context.Context) (bool, error) {
	marker, ok := j.Target.(store.Marker)
	if !ok {
		return false, nil
	}
	m, _, err := j.State.Mark(ctx, j.Config.Name)
	if err != nil || m.Incarnation == "" {
		return false, err
	}
	err = marker.CheckMark(ctx, m)
	if errors.Is(err, store.ErrMarkLost) && !errors.Is(err, store.ErrOwned) {
		return false, nil
	}
	return err == nil, err
}

// Claim takes the target's keys for a migration whose target lacks its mark: it was emptied or
// restored. The migration is marked unclean.
func (j *Job) Claim(ctx context.Context) (claimed bool, err error) {
	marker, ok := j.Target.(store.Marker)
	if !ok {
		return false, refuse("a %s target has no marks: there is nothing to claim", j.Config.Target.Store)
	}
	if had, err := j.HasMark(ctx); err != nil || had {
		return false, err // claimed already
	}
	m, _, err := j.State.Mark(ctx, j.Config.Name)
	if err != nil {
		return false, err
	}
	if err := refuseWhileRead(ctx, j.State, j.Config.Name); err != nil {
		return false, err
	}
	m, err = j.State.PlaceMark(ctx, j.Config.Name, m.Incarnation, rand.Text(), "the target's keys were claimed: what it had before may be lost")
	if err != nil {
		return false, err
	}
	if state.IsDryRun(ctx) {
		return true, nil
	}
	err = place(ctx, j.State, j.Config.Name, marker, m, false)
	return err == nil, err
}

// WatchLegacy looks whether legacy may have lost transactions. If so, the migration is marked unclean,
// its unfinished backfill is void, reads return to legacy, and legacy's era is raised: what the target
// has of the lost transactions would refuse the writes that follow. It returns what was lost; "": nothing.
func (j *Job) WatchLegacy(ctx context.Context) (lost string, err error) {
	return j.lookForLoss(ctx, state.Legacy, j.Legacy, func(why string) error {
		_, err := j.LoseLegacy(ctx, why)
		return err
	})
}

// lookForLoss looks at a store's servers, and reports to found how they may have lost data.
func (j *Job) lookForLoss(ctx context.Context, side state.Side, s any, found func(why string) error) (lost string, err error) {
	finder, ok := s.(store.LossFinder)
	if !ok {
		return "", nil
	}
	seen, err := j.State.SeenServers(ctx, j.Config.Name, side)
	if err != nil {
		return "", err
	}
	now, lost, err := finder.LookForLoss(ctx, seen)
	if err != nil || now == "" { // what can't be seen now must not hide a later restart
		return "", err
	}
	if lost != "" {
		lost = string(side) + " may have lost data: " + lost
		if err := found(lost); err != nil {
			return lost, err
		}
	}
	if state.IsDryRun(ctx) {
		return lost, nil
	}
	// [legacy-lost], [target-restarted]: last. After a crash before this, the next look finds it again.
	return lost, j.State.SeeServers(ctx, j.Config.Name, side, seen, now)
}

// LoseLegacy records that legacy may have lost transactions, returns reads to it, and raises its
// era, which it returns. A raised fence keeps its era: lifting it raises that.
func (j *Job) LoseLegacy(ctx context.Context, why string) (era uint32, err error) {
	if err := j.State.LoseLegacy(ctx, j.Config.Name, why); err != nil {
		return 0, err
	}
	failpoint.Here("legacy.lost")
	if err := j.Controller(j.Config, nil).ReadLegacy(ctx, why); err != nil {
		return 0, err
	}
	attempt, era, err := j.Legacy.FenceState(ctx)
	raiser, ok := j.Legacy.(store.EraRaiser)
	if err != nil || attempt != "" || !ok || state.IsDryRun(ctx) {
		return era, err
	}
	st, err := j.State.Status(ctx, j.Config.Name)
	if err != nil {
		return 0, err
	}
	// The era itself may have gone back: a sequence is lost as a row is.
	era, err = raiser.RaiseEra(ctx, record.MakeVersion(max(era, st.FenceEra), 0, 0))
	failpoint.Here("legacy.raised")
	return era, err
}
