package torture

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// verdict is what one key's history says.
type verdict struct {
	key    int
	ops    []*operation
	stale  []*operation // reads that break a promise by themselves, with the reason
	result porcupine.CheckResult
	strict porcupine.CheckResult // as one linearizable register: told, not demanded
	info   porcupine.LinearizationInfo
	p      prepared
}

func (v *verdict) violated() bool { return len(v.stale) > 0 || v.result == porcupine.Illegal }

// judge holds one key's history against the promises, in two ways: the ledger's,
// which names the read that is wrong and why, and the model's, which sees more.
func judge(key int, ops []*operation, patience time.Duration) *verdict {
	v := &verdict{key: key, ops: ops, stale: against(ops), p: prepare(ops, false)}
	v.result, v.info = porcupine.CheckOperationsVerbose(v.p.model(), v.p.ops, patience)
	strict := prepare(ops, true)
	v.strict = porcupine.CheckOperationsTimeout(strict.model(), strict.ops, patience/4)
	return v
}

// against is the ledger's check. A write is over, for certain, when it was
// acknowledged or somebody had read it. Whoever reads what was over before an
// acknowledged write began, after that was acknowledged, reads what is lost or old.
func against(ops []*operation) (wrong []*operation) {
	const forever = time.Duration(math.MaxInt64)
	written := map[string]*operation{}
	over := map[string]time.Duration{}
	var acknowledged []*operation
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
		if o.Outcome == done {
			acknowledged = append(acknowledged, o)
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
		var newest *operation // of the acknowledged writes before the read, the one that began last
		for _, w := range acknowledged {
			if w.Return < r.Call && (newest == nil || w.Call > newest.Call) {
				newest = w
			}
		}
		if r.violation = wrongRead(r, newest, written, over, ops); r.violation != "" {
			wrong = append(wrong, r)
		}
	}
	return wrong
}

func wrongRead(r, newest *operation, written map[string]*operation, over map[string]time.Duration, ops []*operation) string {
	if r.Value != "" {
		w := written[r.Value]
		switch {
		case w == nil:
			return "nobody wrote this value to this key"
		case w.Outcome == refused:
			return "the writer was told that this was not written"
		case w.Call > r.Return:
			return "it was read before it was written"
		case newest != nil && over[r.Value] < newest.Call:
			return fmt.Sprintf("older than an acknowledged write: %s, begun %s after this value was over and acknowledged %s before the read began",
				newest, (newest.Call - over[r.Value]).Round(time.Microsecond), (r.Call - newest.Return).Round(time.Microsecond))
		}
		return ""
	}
	if newest == nil || newest.Kind == del {
		return ""
	}
	for _, d := range ops {
		if d.Kind != del || d.Outcome == refused || d.Call > r.Return {
			continue
		}
		if d.Outcome == unknown || d.Return >= newest.Call {
			return ""
		}
	}
	return fmt.Sprintf("an acknowledged write is lost: %s was acknowledged %s before the read began, and no delete came since",
		newest, (r.Call - newest.Return).Round(time.Microsecond))
}

// draw writes porcupine's picture as HTML.
func (v *verdict) draw(path string) error {
	return porcupine.VisualizePath(v.p.model(), v.info, path)
}
