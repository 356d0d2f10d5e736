package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
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

// evaluation is the answer for one flag, of either outcome.
type evaluation struct {
	Key          string         `json:"key"`
	Value        any            `json:"value,omitempty"` // absent: the caller's default counts
	Reason       string         `json:"reason,omitempty"`
	Variant      string         `json:"variant,omitempty"`
	ErrorCode    string         `json:"errorCode,omitempty"`
	ErrorDetails string         `json:"errorDetails,omitempty"`
	Metadata     map[string]any `json:"metadata,omitempty"`
}

// evaluationContext is what of a context counts: the key of the record.
type evaluationContext struct {
	key string
	has bool
}

// readContext answers a context that can't be used.
func (c *call) readContext(key string) (e evaluationContext, ok bool) {
	refuse := func(code, details string) (evaluationContext, bool) {
		answer(c.w, http.StatusBadRequest, evaluation{Key: key, ErrorCode: code, ErrorDetails: details})
		return evaluationContext{}, false
	}
	body, err := io.ReadAll(c.r.Body)
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		answer(c.w, http.StatusRequestEntityTooLarge, evaluation{Key: key, ErrorCode: "INVALID_CONTEXT", ErrorDetails: fmt.Sprintf("longer than %d bytes", flagsBody)})
		return e, false
	}
	if err != nil {
		return refuse("PARSE_ERROR", "the body could not be read")
	}
	if !json.Valid(body) {
		return refuse("PARSE_ERROR", "the body is not JSON")
	}
	var request struct {
		Context map[string]json.RawMessage `json:"context"`
	}
	if json.Unmarshal(body, &request) != nil || request.Context == nil {
		return refuse("INVALID_CONTEXT", "want an object with an object context")
	}
	if raw, given := request.Context["targetingKey"]; given {
		if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, &e.key) != nil {
			return refuse("INVALID_CONTEXT", "targetingKey is not a text")
		}
		e.has = true
	}
	return e, true
}

// visible are the routes that the caller may see, by name.
func (c *call) visible() []PublishedRoute {
	var all []PublishedRoute
	for _, r := range c.present.Routes {
		if c.from.Migrations[r.Migration] {
			all = append(all, r)
		}
	}
	return all
}

// flagKinds are the flags of a migration, in the order of a bulk answer.
var flagKinds = []string{"phase", "read", "routing", "sampled"}

func flagKey(migration, kind string) string { return "migrator." + migration + "." + kind }

// evaluate is the answer for a flag, of a context. It takes no lock and reads no clock but for the answer's age.
func (c *call) evaluate(r PublishedRoute, kind string, of evaluationContext) evaluation {
	e := evaluation{Key: flagKey(r.Migration, kind), Reason: "STATIC", Metadata: map[string]any{"epoch": r.Route.Epoch}}
	if c.present.staleness() != "fresh" {
		e.Metadata["stale"], e.Metadata["ageSeconds"] = true, int(c.present.age()/time.Second)
	}
	if !of.has && (kind == "read" || kind == "sampled") {
		return evaluation{Key: e.Key, ErrorCode: "TARGETING_KEY_MISSING", ErrorDetails: "targetingKey is the key of the record", Metadata: e.Metadata}
	}
	b := r.Route.Behaviour()
	hash := xxhash.Sum64String(of.key) // as dual's Reader
	switch kind {
	case "phase":
		e.Value, e.Variant = string(r.Route.Phase), string(r.Route.Phase)
	case "read":
		value := "legacy"
		if b.Reads == phases.ReadsTarget || b.Reads == phases.ReadsSplit && r.Route.Percent.Takes(hash) {
			value = "target"
		}
		if b.Reads == phases.ReadsSplit {
			e.Reason = "SPLIT"
		}
		e.Value, e.Variant = value, value
	case "sampled":
		share, set := r.Route.CompareShare()
		if !set { // each application has a share of its own: the caller's default
			e.Reason = "UNKNOWN"
			break
		}
		if share > 0 && share < phases.All {
			e.Reason = "SPLIT"
		}
		e.Value = share.Takes(hash)
	case "routing":
		e.Value = r.Route.Routing(r.Lease)
	}
	return e
}

func (f *Flags) single(c *call) {
	key := c.r.PathValue("key")
	of, ok := c.readContext(key)
	if !ok || !f.servable(c, key) {
		return
	}
	for _, r := range c.visible() {
		for _, kind := range flagKinds {
			if key != flagKey(r.Migration, kind) {
				continue
			}
			e := c.evaluate(r, kind, of)
			status := http.StatusOK
			if e.ErrorCode != "" {
				status = http.StatusBadRequest
			}
			answer(c.w, status, e)
			return
		}
	}
	// A migration that the caller may not see is not there.
	answer(c.w, http.StatusNotFound, evaluation{Key: key, ErrorCode: "FLAG_NOT_FOUND", ErrorDetails: "there is no such flag, or this token may not see it"})
}

// servable fails what would be answered from routes that are too old.
func (f *Flags) servable(c *call, key string) bool {
	if c.present.staleness() == "over" {
		answer(c.w, http.StatusInternalServerError, evaluation{
			Key: key, ErrorCode: "GENERAL",
			ErrorDetails: fmt.Sprintf("the state database has not answered for %s: what is known is too old to be served", c.present.age().Round(time.Second)),
		})
		return false
	}
	return true
}

func (f *Flags) bulk(c *call) {
	of, ok := c.readContext("")
	if !ok {
		return
	}
	if heard := c.r.URL.Query().Get("flagConfigEtag"); heard != "" && heard != c.configTag() {
		// The event came from a process that knows more: what this one has may be older.
		f.reload(c.r.Context(), time.Now())
		c.present = f.present.Load()
	}
	if !f.servable(c, "") {
		return
	}
	etag := c.tag(of)
	c.w.Header().Set("ETag", etag)
	if matches(c.r.Header.Get("If-None-Match"), etag) {
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	flags := []evaluation{}
	for _, r := range c.visible() {
		for _, kind := range flagKinds {
			flags = append(flags, c.evaluate(r, kind, of))
		}
	}
	metadata := map[string]any{"flagConfigEtag": c.configTag()}
	if c.present.staleness() != "fresh" {
		metadata["stale"], metadata["ageSeconds"] = true, int(c.present.age()/time.Second)
	}
	answer(c.w, http.StatusOK, map[string]any{
		"flags": flags, "metadata": metadata,
		"eventStreams": []map[string]any{{
			"type": "sse", "inactivityDelaySec": int(Inactivity / time.Second),
			"endpoint": map[string]string{"requestUri": eventsPath + "?ticket=" + ticket(c.from.ID, c.hash)},
		}},
	})
}

// configTag is the entity tag of what the flags are evaluated from, for this caller.
func (c *call) configTag() string {
	h := sha256.New()
	fmt.Fprintf(h, "1 %s\n", c.present.staleness())
	for _, r := range c.visible() {
		fmt.Fprintf(h, "%s %s %d %d %d %d\n", r.Migration, r.Route.Phase, r.Route.Percent, r.Route.Epoch, r.Route.Shadow, r.Lease)
	}
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// tag is the entity tag of an answer: the configuration and the context. One of the configuration alone would serve
// another key's answer.
func (c *call) tag(of evaluationContext) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %t %s", c.configTag(), of.has, of.key)
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// matches reports whether a header If-None-Match has the tag.
func matches(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// ticket opens the event stream of a token: a browser's EventSource sends no header. It is made with what every server
// has of the token, ends with it, and opens nothing else.
func ticket(id int64, hash [sha256.Size]byte) string {
	mac := hmac.New(sha256.New, hash[:])
	_, _ = mac.Write(binary.BigEndian.AppendUint64([]byte("migrator events 1 "), uint64(id)))
	return strconv.FormatInt(id, 10) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// holder finds the bearer of a ticket, or of a header.
func (f *Flags) holder(r *http.Request) (c *call, ok bool) {
	p := f.present.Load()
	if p == nil {
		return nil, false
	}
	given := r.URL.Query().Get("ticket")
	number, _, _ := strings.Cut(given, ".")
	for hash, b := range p.Bearers {
		if strconv.FormatInt(b.ID, 10) == number && subtle.ConstantTimeCompare([]byte(ticket(b.ID, hash)), []byte(given)) == 1 && time.Now().Before(b.Until) {
			return &call{r: r, from: b, hash: hash, present: p}, true
		}
	}
	return nil, false
}

// events is a stream of changes: one event each time that the configuration's tag differs from the one that the client
// has heard of, comments in between, and the end when the token ends.
func (f *Flags) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	c, ok := f.holder(r)
	if !ok {
		f.refuseToken(w, r)
		return
	}
	c.w = w
	if !f.originAllowed(w, r) || !f.mayGo(c) {
		return
	}
	if f.streams.Add(1) > mostStreams {
		f.streams.Add(-1)
		tooMany(w, "event streams", 10*time.Second)
		return
	}
	defer f.streams.Add(-1)
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{})
	send := func(text string) bool {
		// A client that does not read must not keep the stream for ever.
		_ = out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err := io.WriteString(w, text) //nolint:gosec // an event stream of entity tags: no page takes it as HTML
		return err == nil && out.Flush() == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect events
	heard := r.Header.Get("Last-Event-ID")
	if !send("retry: 1000\n\n") {
		return
	}
	beat := time.NewTicker(f.Heartbeat)
	defer beat.Stop()
	for {
		changed := f.next() // before what is there is read: no change falls between
		if c, ok = f.holder(r); !ok {
			return
		}
		// The first one has no name of a former: a change may have come between the answer and this stream.
		if tag := c.configTag(); strings.Trim(tag, `"`) != heard {
			heard = strings.Trim(tag, `"`)
			data, _ := json.Marshal(map[string]any{"type": "refetchEvaluation", "etag": tag, "lastModified": time.Now().Unix()})
			if !send("id: " + heard + "\nevent: message\ndata: " + string(data) + "\n\n") {
				return
			}
		}
		select {
		case <-changed:
		case <-beat.C:
			if !send(":\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		case <-f.over:
			return
		}
	}
}

// Streams is how many event streams are open.
func (f *Flags) Streams() int { return int(f.streams.Load()) }
