package torture

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

type kind string

const (
	get kind = "get"
	put kind = "put"
	del kind = "del"
)

// outcome is what the client knows of an operation.
type outcome string

const (
	done    outcome = "ok"
	unknown outcome = "unknown"     // it may have happened, or may still happen
	half    outcome = "half"        // committed in legacy; the target follows when it is repaired
	refused outcome = "not written" // it has not happened and never will
	failed  outcome = "failed"      // a read without an answer: no operation
)

// exception is why an acknowledged write may be followed by stale reads for a while.
type exception string

const (
	degraded  exception = "degraded"  // on_target_failure: degrade
	unsettled exception = "unsettled" // its rollback did not settle within the budget
)

// operation is one request of a client. Times are since the run began.
type operation struct {
	Client    int
	Instance  string
	Key       int
	Kind      kind
	Value     string // put: the value; get: the result, "" for no record
	Call      time.Duration
	Return    time.Duration
	Outcome   outcome
	Exception exception     // the exception that the instance acknowledged the write as
	Until     time.Duration // with an Exception: no later read is older
	Route     string        // the instance's route when it answered
	Err       string
	Final     bool // made after the last fault
	violation string
	lost      bool // the violation is a missing write
}

// due returns when an acknowledged write binds every later read.
func (o *operation) due() time.Duration {
	if o.Exception != "" {
		return max(o.Return, o.Until)
	}
	return o.Return
}

func (o *operation) String() string {
	text := string(o.Kind) + " k" + fmt.Sprint(o.Key)
	value := o.Value
	if value == "" {
		value = "nothing"
	}
	switch o.Kind {
	case put:
		text += " = " + value
	case get:
		text += " -> " + value
	}
	return text
}

// history records all operations of clients; safe for concurrent use.
type history struct {
	mu  sync.Mutex
	ops []*operation
}

func (h *history) add(o *operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

func (h *history) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// byKey returns each key's operations in the order of their calls.
func (h *history) byKey() map[int][]*operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := map[int][]*operation{}
	for _, o := range h.ops {
		keys[o.Key] = append(keys[o.Key], o)
	}
	for _, ops := range keys {
		slices.SortFunc(ops, func(a, b *operation) int { return cmp.Compare(a.Call, b.Call) })
	}
	return keys
}

func (h *history) count() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := map[string]int{}
	for _, o := range h.ops {
		counts[string(o.Kind)+" "+string(o.Outcome)]++
	}
	return counts
}
