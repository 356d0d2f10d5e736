package torture

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// verdict is the result of checking one key's history.
type verdict struct {
	key     int
	ops     []*operation
	stale   []*operation   // reads that break a promise by themselves, with the reason
	allowed []allowedStale // reads that would, but for a write that its instance acknowledged as an exception
	result  porcupine.CheckResult
	strict  porcupine.CheckResult // as one linearizable register: reported, not required
	info    porcupine.LinearizationInfo
	p       prepared
}

func (v *verdict) violated() bool { return len(v.stale) > 0 || v.result == porcupine.Illegal }

// checkKey checks one key's history in two ways: the ledger, which names the wrong read and
// the reason, and the model, which detects more.
func checkKey(key int, ops []*operation, timeout time.Duration) *verdict {
	v := &verdict{key: key, ops: ops, allowed: allowedStaleReads(ops), p: prepare(ops, false)}
	v.stale = ledgerViolations(ops)
	v.result, v.info = porcupine.CheckOperationsVerbose(v.p.model(), v.p.ops, timeout)
	strict := prepare(ops, true)
	v.strict = porcupine.CheckOperationsTimeout(strict.model(), strict.ops, timeout/10)
	return v
}

// ledgerViolations is the ledger's check. A write is certainly over when it was acknowledged
// or a client had read it. A read that begins after an acknowledged write, and returns a value
// that was over before that write began, is stale; without a value, the write is lost.
func ledgerViolations(ops []*operation) []*operation {
	return ledgerViolationsBy(ops, (*operation).due)
}

// allowedStale is a stale read that an exception allows.
type allowedStale struct {
	read, write *operation
	after       time.Duration // from the write's acknowledgement to the read's end
}

// allowedStaleReads lists the reads that are older than a write which was acknowledged before
// they began, and that are allowed: the write's instance acknowledged it as an exception, and
// the fleet's rollback or the key's repair was not complete when the read began.
func allowedStaleReads(ops []*operation) (list []allowedStale) {
	wrong := map[*operation]bool{}
	for _, r := range ledgerViolations(ops) {
		wrong[r] = true
	}
	for _, r := range ledgerViolationsBy(ops, func(w *operation) time.Duration { return w.Return }) {
		if !wrong[r] {
			w := newestBefore(ops, r, func(w *operation) time.Duration { return w.Return })
			list = append(list, allowedStale{r, w, r.Return - w.Return})
		}
		r.violation, r.lost = "", false
	}
	return list
}

// newestBefore returns the last begun of the acknowledged writes that bind the read.
func newestBefore(ops []*operation, r *operation, due func(*operation) time.Duration) (newest *operation) {
	for _, w := range ops {
		if w.Kind != get && w.Outcome == done && due(w) < r.Call && (newest == nil || w.Call > newest.Call) {
			newest = w
		}
	}
	return newest
}

func ledgerViolationsBy(ops []*operation, due func(*operation) time.Duration) (wrong []*operation) {
	const forever = time.Duration(math.MaxInt64)
	written := map[string]*operation{}
	over := map[string]time.Duration{}
	for _, o := range ops {
		if o.Kind == get {
			continue
		}
		if o.Kind == put {
			written[o.Value] = o
			over[o.Value] = forever
			if o.Outcome != unknown {
				over[o.Value] = o.Return
			}
		}
	}
	for _, o := range ops {
		if end, ok := over[o.Value]; o.Kind == get && o.Outcome == done && ok {
			over[o.Value] = min(end, o.Return)
		}
	}
	for _, r := range ops {
		if r.Kind != get || r.Outcome != done {
			continue
		}
		newest := newestBefore(ops, r, due)
		if r.violation, r.lost = wrongRead(r, newest, written, over, ops); r.violation != "" {
			wrong = append(wrong, r)
		}
	}
	return wrong
}

func wrongRead(r, newest *operation, written map[string]*operation, over map[string]time.Duration, ops []*operation) (violation string, lost bool) {
	if r.Value != "" {
		w := written[r.Value]
		switch {
		case w == nil:
			return "this value was never written to this key", false
		case w.Outcome == refused:
			return "the writer got the answer that this was not written", false
		case w.Call > r.Return:
			return "it was read before it was written", false
		case newest != nil && over[r.Value] < newest.Call:
			return fmt.Sprintf("older than an acknowledged write: %s, begun %s after this value was over and acknowledged %s before the read began",
				newest, (newest.Call - over[r.Value]).Round(time.Microsecond), (r.Call - newest.Return).Round(time.Microsecond)), false
		}
		return "", false
	}
	if newest == nil || newest.Kind == del {
		return "", false
	}
	for _, d := range ops {
		if d.Kind != del || d.Outcome == refused || d.Call > r.Return {
			continue
		}
		if d.Outcome == unknown || d.Return >= newest.Call {
			return "", false
		}
	}
	return fmt.Sprintf("an acknowledged write is lost: %s was acknowledged %s before the read began, and no delete came since",
		newest, (r.Call - newest.Return).Round(time.Microsecond)), true
}

// draw writes porcupine's picture as HTML.
func (v *verdict) draw(path string) error {
	return porcupine.VisualizePath(v.p.model(), v.info, path)
}
