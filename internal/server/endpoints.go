package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/oneline"
)

// Base is the path that all endpoints of the HTTP API are below.
const Base = "/api/v1"

// Endpoint is one operation of the HTTP API. The list of all is the one place that its handler, the OpenAPI document and
// the reference come from.
type Endpoint struct {
	ID      string // its operationId
	Group   string // of the reference, and the operation's tag
	Method  string
	Path    string // below Base, with {parameters}
	Summary string // a line
	About   string // Markdown
	Needs   Grant  // what the token's role must have
	Repeat  string // why a repeated request does no harm; "": it is a read
	Errors  []Code // beside those that every endpoint has
	Body    int64  // most bytes of the request; 0: 64 KiB
	Queries []Query
	// Within is how long the operation may take; 0: 10 s. A client that disconnects does not end it: its outcome would
	// be unknown, and its connection to the state closed.
	Within time.Duration

	request, answer reflect.Type // nil: none
	stream          bool
	serve           func(ctx context.Context, c *Call) (answer any, err error)
}

// Query is a parameter of the query: a number from 1 on.
type Query struct {
	Name, About string
	Default     int
}

// Grant is the kind of grant that a token's role must have for the migration; the state checks it.
type Grant string

// What endpoints need. An operator may do what an application may.
const (
	NeedsAny         Grant = "any"         // a grant of any kind for the migration
	NeedsApplication Grant = "application" // or operator
	NeedsViewer      Grant = "viewer"      // or operator, or decider
	NeedsOperator    Grant = "operator"
	NeedsDecider     Grant = "decider" // or operator
)

// None is the request or the answer of an endpoint that has none.
type None struct{}

// Handle makes an endpoint of what it does. Its request and its answer are JSON documents of these types; with None there
// is none. ctx has the caller's token, and ends in time. An error becomes a [Problem] by Endpoints.Explain.
func Handle[Q, A any](e Endpoint, serve func(ctx context.Context, c *Call, request Q) (A, error)) Endpoint {
	e.request, e.answer = documentType[Q](), documentType[A]()
	e.serve = func(ctx context.Context, c *Call) (any, error) {
		var q Q
		if e.request != nil {
			if err := c.read(&q, cmp.Or(e.Body, 64<<10)); err != nil {
				return nil, err
			}
		} else if c.r.ContentLength > 0 {
			return nil, NewProblem(BadRequest, "this operation takes no body")
		}
		return serve(ctx, c, q)
	}
	return e
}

func documentType[T any]() reflect.Type {
	if t := reflect.TypeFor[T](); t != reflect.TypeFor[None]() {
		return t
	}
	return nil
}

// Call is one request of a caller whose token is valid.
type Call struct{ *call }

// Param is a parameter of the path.
func (c *Call) Param(name string) string { return c.r.PathValue(name) }

// Number is a parameter of the query, from 1 to most; without one otherwise.
func (c *Call) Number(name string, otherwise, most int) (int, error) {
	given := c.r.URL.Query().Get(name)
	if given == "" {
		return otherwise, nil
	}
	n, err := Number("the query's "+name, given, int64(most))
	return int(n), err
}

// Number reads a number from 1 to most. what names it.
func Number(what, given string, most int64) (int64, error) {
	n, err := strconv.ParseInt(given, 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, NewProblem(BadRequest, "%s is %s: want a number from 1 to %d", what, oneline.Of(given), most)
	}
	return n, nil
}

// read decodes the request: one document, with the members of its type alone, each once.
func (c *Call) read(into any, limit int64) error {
	if given := c.r.Header.Get("Content-Type"); given != "" {
		if kind, _, err := mime.ParseMediaType(given); err != nil || kind != "application/json" {
			return NewProblem(BadMediaType, "the body's Content-Type is %s: want application/json", oneline.Of(given)).WithTry("the header Content-Type: application/json")
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		return NewProblem(BodyTooLarge, "the body is longer than %d bytes", limit).WithTry("several requests")
	}
	if err != nil {
		return NewProblem(BadJSON, "the body could not be read to its end")
	}
	if len(body) == 0 {
		return NewProblem(BadJSON, "the body is empty: want a JSON document")
	}
	return badJSON(jsonv2.Unmarshal(body, into, jsonv2.RejectUnknownMembers(true)))
}

// badJSON says what is wrong, and where, without the value: it may be of a record.
func badJSON(err error) error {
	if err == nil {
		return nil
	}
	place := func(pointer jsontext.Pointer, offset int64) string {
		if pointer == "" {
			return fmt.Sprintf("at byte %d", offset)
		}
		return fmt.Sprintf("at %s (byte %d)", oneline.Of(string(pointer)), offset)
	}
	var syntax *jsontext.SyntacticError
	var meaning *jsonv2.SemanticError
	switch {
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return NewProblem(BadJSON, "the body has a member twice, %s", place(syntax.JSONPointer, syntax.ByteOffset))
	case errors.As(err, &syntax):
		return NewProblem(BadJSON, "the body is not one JSON document: it breaks off or goes on %s", place(syntax.JSONPointer, syntax.ByteOffset))
	case errors.As(err, &meaning) && errors.Is(err, jsonv2.ErrUnknownName):
		return NewProblem(BadJSON, "the body has an unknown member %s", place(meaning.JSONPointer, meaning.ByteOffset))
	case errors.As(err, &meaning):
		what := "a value that does not fit"
		if meaning.Err != nil && meaning.GoType != nil && meaning.GoType.PkgPath() != "" { // of a type of ours, which says what it wants
			what += " (" + oneline.Of(meaning.Err.Error()) + ")"
		}
		return NewProblem(BadJSON, "the body has %s, %s", what, place(meaning.JSONPointer, meaning.ByteOffset))
	}
	return NewProblem(BadJSON, "the body can't be read as JSON")
}

// Endpoints serve the HTTP API.
type Endpoints struct {
	*Directory

	List []Endpoint
	Rate int // requests of one token in a second; 0: 2000
	// Most operations are done at once, and others wait for their turn: as many as there are connections to the state.
	// Without it a daemon that is behind would do what clients have given up on. 0: 16.
	Most int
	// WithToken makes ctx one of the token: what is done under it is done with the token's rights.
	WithToken func(ctx context.Context, token string) context.Context
	// Explain makes a problem of an error that is none. One of status 500 or more is logged.
	Explain   func(error) *Problem
	Heartbeat time.Duration // of event streams; 0: 5 s
	Log       *slog.Logger  // nil: discarded

	guard *guard
	turns chan struct{}
	under sync.WaitGroup // operations
}

// Wait returns when no operation is under way: after Serve has ended none begins. The context of one that may take long
// ends with the Directory's Run, as a command's does at a signal.
func (e *Endpoints) Wait() { e.under.Wait() }

// turnWithin is how long an operation waits for its turn.
const turnWithin = 5 * time.Second

// rateOfAPI lets one token's fleet of some thousand instances renew its leases.
const rateOfAPI = 2000

// Register adds the paths of all endpoints, and that of their OpenAPI document.
func (e *Endpoints) Register(mux *http.ServeMux) {
	e.Log, e.Heartbeat = logs.OrDiscard(e.Log), cmp.Or(e.Heartbeat, 5*time.Second)
	e.turns = make(chan struct{}, cmp.Or(e.Most, 16))
	e.guard = newGuard(&guard{
		Directory: e.Directory, rate: cmp.Or(e.Rate, rateOfAPI),
		fail: func(w http.ResponseWriter, _ int, code, details string) {
			what, try, _ := strings.Cut(details, ": ")
			NewProblem(Code(code), "%s", what).WithTry(try).write(w)
		},
	})
	document := sync.OnceValues(func() ([]byte, error) { return Document(e.List) })
	methods := map[string][]string{"/openapi.json": {http.MethodGet}}
	mux.Handle("GET "+Base+"/openapi.json", e.admitted(func(c *Call, _ string) {
		text, err := document()
		if err != nil {
			e.fail(c, Endpoint{ID: "openapi"}, err)
			return
		}
		c.w.Header().Set("Content-Type", "application/openapi+json; version=3.1")
		_, _ = c.w.Write(text)
	}))
	for _, one := range e.List {
		methods[one.Path] = append(methods[one.Path], one.Method)
		mux.Handle(one.Method+" "+Base+one.Path, e.admitted(func(c *Call, token string) { e.answer(c, one, token) }))
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		mux.Handle(Base+path, e.admitted(func(c *Call, _ string) {
			c.w.Header().Set("Allow", strings.Join(allowed, ", "))
			NewProblem(BadMethod, "%s is not a method of this path: it has %s", oneline.Of(c.r.Method), strings.Join(allowed, ", ")).write(c.w)
		}))
	}
	mux.Handle(Base+"/", e.admitted(func(c *Call, _ string) {
		NewProblem(NoSuchEndpoint, "there is no path %s", oneline.Of(c.r.URL.Path)).WithTry("GET " + Base + "/openapi.json").write(c.w)
	}))
}

// admitted serves callers that the guard admits, by a bearer token alone.
func (e *Endpoints) admitted(serve func(c *Call, token string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if c, ok := e.guard.admit(w, r, token); ok {
			serve(&Call{c}, token)
		}
	})
}

func (e *Endpoints) answer(c *Call, one Endpoint, token string) {
	if one.stream {
		e.epochs(c)
		return
	}
	e.under.Add(1)
	defer e.under.Done()
	within := cmp.Or(one.Within, 10*time.Second)
	long := within > time.Minute
	if !long { // a longer one waits for other things than the state
		late := time.NewTimer(turnWithin)
		defer late.Stop()
		select {
		case e.turns <- struct{}{}:
			defer func() { <-e.turns }()
		case <-c.r.Context().Done(): // the client is gone
			return
		case <-late.C:
			NewProblem(Overloaded, "the daemon is busy with other requests: nothing was done").write(c.w)
			return
		}
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(within + 10*time.Second)) // else the connection's
	ctx, cancel := context.WithTimeout(e.WithToken(context.WithoutCancel(c.r.Context()), token), within)
	defer cancel()
	if long {
		go func() {
			select {
			case <-e.over:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	document, err := one.serve(ctx, c)
	if err != nil {
		e.fail(c, one, err)
		return
	}
	if one.answer == nil {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(c.w, http.StatusOK, document)
}

func (e *Endpoints) fail(c *Call, one Endpoint, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = e.Explain(err)
	}
	if p.Code.status() >= http.StatusInternalServerError {
		e.Log.Warn("request failed", "operation", one.ID, "token", c.from.ID, "code", string(p.Code), "error", err, hint.Attr(err))
	}
	p.write(c.w)
}

// Epochs makes an endpoint of a stream of the migration's epochs: the present one, and each that follows, as server-sent
// events, with comments in between. It is read from the Directory: a stream costs the state nothing.
func Epochs(e Endpoint) Endpoint {
	e.stream = true
	return e
}

// epochs ends a stream when its token ends or may not see the migration any more, and when the state has not answered for
// so long that no epoch would be news.
func (e *Endpoints) epochs(c *Call) {
	name := c.Param("migration")
	heard := int64(0)
	see := func() (epoch int64, p *Problem) {
		present := c.present
		from, known := present.Bearers[c.hash]
		if !known || !time.Now().Before(from.Until) {
			return 0, NewProblem(BadToken, tokenRefused)
		}
		r, found := present.route(name)
		switch {
		case !from.Migrations[name] || !found: // one that the caller may not see is not there
			return 0, NewProblem(UnknownMigration, "there is no migration %s, or this token may not see it", oneline.Of(name))
		case present.staleness() == "over":
			return 0, NewProblem(StateUnreachable, "the state database has not answered for %s", present.age().Round(time.Second))
		}
		return r.Route.Epoch, nil
	}
	if _, p := see(); p != nil {
		p.write(c.w)
		return
	}
	closed, ok := e.openStream()
	if !ok {
		e.guard.tooMany(c.w, "event streams", 10*time.Second)
		return
	}
	defer closed()
	send := eventStream(c.w)
	if !send("retry: 1000\n\n") {
		return
	}
	beat := time.NewTicker(e.Heartbeat)
	defer beat.Stop()
	for {
		changed := e.next() // before what is there is read: no change falls between
		c.present = e.present.Load()
		epoch, p := see()
		if p != nil {
			return
		}
		if epoch != heard { // also a lower one: the state was restored from a backup
			heard = epoch
			if !send(fmt.Sprintf("id: %d\nevent: epoch\ndata: {\"epoch\":%d}\n\n", epoch, epoch)) {
				return
			}
		}
		select {
		case <-changed:
		case <-beat.C:
			if !send(":\n\n") {
				return
			}
		case <-c.r.Context().Done():
			return
		case <-e.over:
			return
		}
	}
}
