package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// Problem is why a request was refused or failed: the JSON document of RFC 9457. Code is stable; the texts are for a
// person.
type Problem struct {
	Type   string    `json:"type" jsonschema_description:"always about:blank: the member code names the kind of the problem"`
	Title  string    `json:"title" jsonschema_description:"the HTTP status in words"`
	Status int       `json:"status"`
	Code   Code      `json:"code" jsonschema_description:"a stable name of the kind of the problem"`
	Detail string    `json:"detail" jsonschema_description:"what is so, and where, in one line"`
	Try    string    `json:"try,omitempty" jsonschema_description:"what to do about it"`
	Live   *Conflict `json:"conflict,omitempty" jsonschema_description:"of route-conflict: the route that an instance may still be on"`

	Gates []phases.GateResult `json:"gates,omitempty" jsonschema_description:"of gates-closed: all gates of the step, also those that are open"`

	retry time.Duration
}

// Conflict is a route that excludes another.
type Conflict struct {
	To   phases.Route `json:"to" jsonschema_description:"the route that was asked for"`
	Live phases.Route `json:"live" jsonschema_description:"the route that an instance may be on"`
}

func (p *Problem) Error() string { return p.Detail }

// Code names a kind of problem. A code may be added; none is renamed.
type Code string

// Codes of problems.
const (
	BadJSON          Code = "bad-json"
	BadRequest       Code = "bad-request"
	BodyTooLarge     Code = "body-too-large"
	BadMediaType     Code = "unsupported-media-type"
	BadToken         Code = codeBadToken
	BadOrigin        Code = codeBadOrigin
	NoGrant          Code = "no-grant"
	NoSuchEndpoint   Code = "no-such-endpoint"
	UnknownMigration Code = "unknown-migration"
	UnknownRun       Code = "unknown-run"
	BadMethod        Code = "method-not-allowed"
	LeaseLost        Code = "lease-lost"
	LeaseTaken       Code = "lease-taken"
	OtherMoves       Code = "other-moves"
	RouteMoved       Code = "route-moved"
	RouteConflict    Code = "route-conflict"
	TargetLost       Code = "target-lost"
	NotInState       Code = "not-in-this-state"
	GatesClosed      Code = "gates-closed"
	NotYet           Code = "not-yet"
	TooMany          Code = codeTooMany
	NotReady         Code = codeNotReady
	StateUnreachable Code = "state-unreachable"
	Overloaded       Code = "overloaded"
	Misconfigured    Code = "server-misconfigured"
	Internal         Code = "internal"
)

// codes has, for each code, its HTTP status and what it means, in the reference's order.
var codes = []struct {
	code   Code
	status int
	means  string
}{
	{BadJSON, http.StatusBadRequest, "The body is not one JSON document of the request's schema: a syntax error, an unknown or repeated member, another type, a second document. `detail` has the place."},
	{BadRequest, http.StatusBadRequest, "A value is out of its range. `detail` names the member."},
	{BadToken, http.StatusUnauthorized, "The bearer token is missing, unknown, expired or revoked."},
	{BadOrigin, http.StatusForbidden, "A browser's page sent the request."},
	{NoGrant, http.StatusForbidden, "The token's role has no grant of the kind that the operation needs."},
	{NoSuchEndpoint, http.StatusNotFound, "There is no such path."},
	{UnknownMigration, http.StatusNotFound, "There is no migration of this name."},
	{UnknownRun, http.StatusNotFound, "The migration has no run of this number."},
	{BadMethod, http.StatusMethodNotAllowed, "The path has other methods: see the header `Allow`."},
	{LeaseLost, http.StatusConflict, "The lease has expired, has ended, or is another role's: join again."},
	{LeaseTaken, http.StatusConflict, "The lease's ID was another lease's: name a new one."},
	{OtherMoves, http.StatusConflict, "The instance moves something else than what is applied: it must be restarted with the applied migration file."},
	{RouteMoved, http.StatusConflict, "The migration has moved to another route: nothing was recorded, and the write must not be made."},
	{RouteConflict, http.StatusConflict, "An instance may be on a route that excludes the one asked for. `conflict` has both."},
	{TargetLost, http.StatusConflict, "The target has lost data: the write must not be made."},
	{NotInState, http.StatusConflict, "The migration's state does not allow it now."},
	{GatesClosed, http.StatusConflict, "Gates of the step are closed: nothing was changed. `gates` has all of them."},
	{NotYet, http.StatusConflict, "It may succeed later, or after a look at where the migration is now: `detail` says why. A command's exit code would be 8."},
	{BodyTooLarge, http.StatusRequestEntityTooLarge, "The body is longer than the operation takes."},
	{BadMediaType, http.StatusUnsupportedMediaType, "The body's Content-Type is not application/json."},
	{TooMany, http.StatusTooManyRequests, "Too many requests of one token, or without one. `Retry-After` has the seconds to wait."},
	{Internal, http.StatusInternalServerError, "The operation failed; the daemon's log has the error."},
	{Misconfigured, http.StatusInternalServerError, "The daemon's own role lacks a grant; its log has the error."},
	{NotReady, http.StatusServiceUnavailable, "The daemon has just started, and has not read the tokens yet."},
	{Overloaded, http.StatusServiceUnavailable, "The daemon has more requests than it can do: nothing was done. Repeat it, at another daemon or after `Retry-After`."},
	{StateUnreachable, http.StatusServiceUnavailable, "The state database does not answer: it is unknown whether the operation took effect. Repeat it, at another daemon or after `Retry-After`."},
}

// Codes are all of them.
func Codes() []Code {
	all := make([]Code, len(codes))
	for i, c := range codes {
		all[i] = c.code
	}
	return all
}

func (c Code) status() int {
	for _, known := range codes {
		if known.code == c {
			return known.status
		}
	}
	return http.StatusInternalServerError // a test holds the table complete
}

// NewProblem is a problem of a code.
func NewProblem(code Code, format string, args ...any) *Problem {
	return &Problem{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// WithTry adds what to do.
func (p *Problem) WithTry(text string) *Problem {
	p.Try = text
	return p
}

// write answers with the problem.
func (p *Problem) write(w http.ResponseWriter) {
	p.Status = p.Code.status()
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	if p.Status == http.StatusServiceUnavailable && p.retry == 0 {
		p.retry = time.Second
	}
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(p) // the caller may have gone
}
