package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/phases"
)

// Published is what flags are evaluated from, as of one moment.
type Published struct {
	Routes  []PublishedRoute
	Bearers map[[sha256.Size]byte]Bearer // by the hash of a hash of the token
}

// PublishedRoute is the route of a migration.
type PublishedRoute struct {
	Migration string
	Route     phases.Route
	Lease     time.Duration
}

// Bearer is a caller whose token is valid.
type Bearer struct {
	ID         int64
	Until      time.Time // by this process's monotonic clock
	Migrations map[string]bool
}

const (
	flagsBody     = 64 << 10 // bytes of a request
	mostStreams   = 1024
	refreshEvery  = time.Second
	refreshWithin = 3 * time.Second
	// FreshFor is how old an answer may be before it says so.
	FreshFor = 5 * time.Second
	// ServedFor is how old an answer may be at all: an instance that has lost its lease reads legacy from here on.
	ServedFor = phases.LeaseTTL
	// Inactivity is what event streams advertise; a heartbeat comes in a fraction of it. A longer one would
	// make a client that closes silent connections reconnect for ever.
	Inactivity = 2 * time.Minute
	heartbeat  = Inactivity / 8
)

// Flags serves the OpenFeature Remote Evaluation Protocol 0.3.0 below /ofrep/v1 for all migrations that a caller's token may
// see. Answers come from a copy of the routes that Run keeps, not from the state database.
//
// The token is checked first: a request without one costs two hashes, and is limited.
type Flags struct {
	Read func(ctx context.Context) (Published, error)
	// Notified calls changed when what Read returns may have changed, until its context ends; nil: Read is called each second.
	Notified  func(ctx context.Context, changed func()) error
	Origins   []string      // of pages that browsers may call from, such as https://shop.example
	Rate      int           // requests of one token in a second; 0: 200
	Heartbeat time.Duration // 0: an eighth of what is advertised
	Log       *slog.Logger  // nil: discarded

	present  atomic.Pointer[publication]
	ask      chan struct{} // a refresh is due
	once     sync.Once
	refresh  sync.Mutex
	limits   sync.Map // *rate.Limiter by the ID of a token
	unknown  *rate.Limiter
	streams  atomic.Int64
	over     chan struct{} // closed when Run ends
	isOver   sync.Once
	behind   atomic.Bool // the last refresh failed
	wakening sync.Mutex
	changed  chan struct{} // closed, and replaced, with each new publication
}

// publication is what was read, and when the reading began.
type publication struct {
	Published

	at time.Time
}

func (p *publication) age() time.Duration { return time.Since(p.at) }

// staleness is part of what a client has to hear of: fresh answers, those that say that they are old, and none.
func (p *publication) staleness() string {
	switch age := p.age(); {
	case age <= FreshFor:
		return "fresh"
	case age <= ServedFor:
		return "stale"
	}
	return "over"
}

func (f *Flags) prepare() {
	f.once.Do(func() {
		f.ask, f.over, f.changed = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
		f.unknown = rate.NewLimiter(20, 50)
		f.Log = logs.OrDiscard(f.Log)
		f.Rate, f.Heartbeat = cmp.Or(f.Rate, 200), cmp.Or(f.Heartbeat, heartbeat)
	})
}

// Run keeps the copy of the routes fresh until ctx ends, and then ends the streams.
func (f *Flags) Run(ctx context.Context) error {
	f.prepare()
	defer f.isOver.Do(func() { close(f.over) })
	if f.Notified != nil {
		hearing, stop := context.WithCancel(ctx)
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			_ = f.Notified(hearing, func() {
				select {
				case f.ask <- struct{}{}:
				default:
				}
			})
		}()
		defer func() { stop(); <-heard }()
	}
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		f.reload(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-f.ask:
		}
	}
}

// reload reads what is published, unless that was done since. It wakes the streams in any case: an
// answer that is getting old is news too.
func (f *Flags) reload(ctx context.Context, since time.Time) {
	f.refresh.Lock()
	defer f.refresh.Unlock()
	if p := f.present.Load(); p != nil && p.at.After(since) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	at := time.Now() // before the request: the state's moment is later
	read, err := f.Read(ctx)
	switch {
	case err == nil:
		f.behind.Store(false)
		f.present.Store(&publication{read, at})
	case ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded):
		if !f.behind.Swap(true) {
			f.Log.Warn("flags can't be read from the state; answers say so, then fail", "error", err, hint.Attr(err))
		}
	}
	f.wakening.Lock()
	defer f.wakening.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Flags) next() <-chan struct{} {
	f.wakening.Lock()
	defer f.wakening.Unlock()
	return f.changed
}

// Paths of the protocol.
const (
	evaluatePath = "/ofrep/v1/evaluate/flags"
	eventsPath   = "/ofrep/v1/events"
)

// Register adds the protocol's paths.
func (f *Flags) Register(mux *http.ServeMux) {
	f.prepare()
	mux.Handle("POST "+evaluatePath, f.guarded(f.bulk))
	mux.Handle("POST "+evaluatePath+"/{key}", f.guarded(f.single))
	mux.HandleFunc("GET "+eventsPath, f.events)
	for _, path := range []string{evaluatePath, evaluatePath + "/{key}", eventsPath} {
		mux.HandleFunc("OPTIONS "+path, f.preflight)
	}
}

// call is a request whose token is valid.
type call struct {
	w http.ResponseWriter
	r *http.Request

	from    Bearer
	hash    [sha256.Size]byte
	present *publication
}

// guarded checks the token, the page and the rate, in this order, before the body is read.
func (f *Flags) guarded(serve func(*call)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			token = r.Header.Get("X-API-Key")
		}
		given := sha256.Sum256([]byte(token))
		hash := sha256.Sum256(given[:])
		p := f.present.Load()
		if p == nil {
			fail(w, http.StatusInternalServerError, "the routes were not read yet; this process's log may have the error")
			return
		}
		from, known := p.Bearers[hash]
		if !known || !time.Now().Before(from.Until) {
			f.refuseToken(w, r)
			return
		}
		c := &call{w, r, from, hash, p}
		if f.originAllowed(w, r) && f.mayGo(c) {
			r.Body = http.MaxBytesReader(w, r.Body, flagsBody)
			serve(c)
		}
	})
}

func (f *Flags) refuseToken(w http.ResponseWriter, r *http.Request) {
	f.allowOrigin(w, r) // a page may read why
	if !f.unknown.Allow() {
		tooMany(w, "requests without a valid token", time.Second)
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	fail(w, http.StatusUnauthorized, "the token is missing, unknown, expired or revoked: migrator token create makes one")
}

// allowOrigin lets a page read the answer, if it is one of those that may.
func (f *Flags) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	w.Header().Add("Vary", "Origin")
	if origin == "" {
		return true
	}
	if !slices.Contains(f.Origins, origin) {
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers", "ETag, Retry-After")
	return true
}

func (f *Flags) originAllowed(w http.ResponseWriter, r *http.Request) bool {
	if !f.allowOrigin(w, r) {
		fail(w, http.StatusForbidden, "pages of this origin may not call: see the setting flags_origins")
		return false
	}
	return true
}

func (f *Flags) preflight(w http.ResponseWriter, r *http.Request) {
	if f.originAllowed(w, r) {
		w.Header().Set("Access-Control-Allow-Methods", "POST, GET")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, X-API-Key, Content-Type, If-None-Match, Last-Event-ID")
		w.Header().Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	}
}

// mayGo limits the requests of one token.
func (f *Flags) mayGo(c *call) bool {
	any, _ := f.limits.LoadOrStore(c.from.ID, rate.NewLimiter(rate.Limit(f.Rate), 2*f.Rate)) // only tokens that are valid come here
	reserved := any.(*rate.Limiter).Reserve()
	if wait := reserved.Delay(); wait > 0 {
		reserved.Cancel()
		tooMany(c.w, "requests of this token", wait)
		return false
	}
	return true
}

func tooMany(w http.ResponseWriter, what string, wait time.Duration) {
	seconds := int(wait/time.Second) + 1
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	fail(w, http.StatusTooManyRequests, fmt.Sprintf("too many %s: again in %d s", what, seconds))
}

// fail answers with what every failure has. details are for a person.
func fail(w http.ResponseWriter, status int, details string) {
	answer(w, status, map[string]string{"errorCode": "GENERAL", "errorDetails": details})
}

func answer(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(document) // the caller has left
}
