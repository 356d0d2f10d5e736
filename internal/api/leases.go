package api

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/leasewire"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

const of = "/migrations/{migration}"

// leases are what an instance does in a fleet: the methods of dual.Fleet and of what a fleet may be beside.
func (a *API) leases() []server.Endpoint {
	return []server.Endpoint{
		server.Handle(server.Endpoint{
			ID: "join", Group: "Leases", Method: http.MethodPost, Path: of + "/leases", Needs: server.NeedsApplication,
			Summary: "Take a lease",
			About:   "An instance that joins has no operation in flight: the lease acknowledges the present epoch. One that joins again, after its lease has expired, names that lease as `previous`: the new lease begins at the epoch that the former had acknowledged, and its queue of writes continues. Without `previous` a live lease of the same instance belongs to a process that has ended, perhaps with writes in its queue: then the migration is unclean.",
			Repeat:  "the request names the lease's ID. Where the instance has that lease, it is renewed, acknowledges nothing, and is returned. Is it over by then, the answer is `lease-lost`: join with another ID, and name the first one as `previous`.",
			Errors:  []server.Code{server.LeaseLost, server.LeaseTaken, server.OtherMoves},
		}, a.join),
		server.Handle(server.Endpoint{
			ID: "renew", Group: "Leases", Method: http.MethodPost, Path: of + "/leases/{id}/renew", Needs: server.NeedsApplication,
			Summary: "Extend a lease, and acknowledge an epoch",
			About:   "Call it each `renew_ms`, and at once when every operation of the instance is on a new route. A lease that has expired or ended is never extended. When `lease_ms` have passed since before the last request that succeeded, by a monotonic clock of the client's own, its lease has lapsed: it reads legacy, and writes only as docs/protocol.md allows.",
			Repeat:  "the acknowledged epoch never decreases, and never exceeds the present one.",
			Errors:  []server.Code{server.LeaseLost},
		}, a.renew),
		server.Handle(server.Endpoint{
			ID: "leave", Group: "Leases", Method: http.MethodDelete, Path: of + "/leases/{id}", Needs: server.NeedsApplication,
			Summary: "End a lease",
			About:   "The instance has no operation in flight, and none in a queue. It is valid late too: for a lease that has expired.",
			Repeat:  "a lease that has ended stays ended.",
		}, a.leave),
		server.Handle(server.Endpoint{
			ID: "observe", Group: "Leases", Method: http.MethodPost, Path: of + "/leases/{id}/windows", Needs: server.NeedsApplication, Body: server.MostBody,
			Summary: "Send telemetry",
			About:   "Gates and triggers are evaluated from it. The lease may have expired. Windows of an epoch that the state does not know, and those older than a week, are skipped; one that is not valid is refused, with all others of the request.",
			Repeat:  "a window counts once, by its incarnation and sequence.",
			Errors:  []server.Code{server.LeaseLost},
		}, a.observe),
		server.Handle(server.Endpoint{
			ID: "fault", Group: "Leases", Method: http.MethodPost, Path: of + "/leases/{id}/fault", Needs: server.NeedsApplication,
			Summary: "Report on a fault, and get the present one",
			About:   "For instances of the environment staging that inject faults of a drill. It is a fault of the target, and acts only from shadow-write to grace.",
			Repeat:  "a report replaces the one before it.",
		}, a.fault),
		server.Handle(server.Endpoint{
			ID: "journal", Group: "Keys", Method: http.MethodPost, Path: of + "/journal", Needs: server.NeedsApplication, Body: server.MostBody,
			Summary: "Journal keys whose copy in the target is behind",
			About:   "Before the write is acknowledged. Readers must then not read these keys from the target. With `fenced` nothing was recorded, and the write fails.",
			Repeat:  "of a key the highest version counts, and its number of changes only grows: a repair that has begun finds the difference.",
		}, a.journal),
		server.Handle(server.Endpoint{
			ID: "journaled", Group: "Keys", Method: http.MethodGet, Path: of + "/journal/{key}", Needs: server.NeedsApplication,
			Summary: "Report whether the journal has a key",
			About:   "Without it no lost record is confirmed: the key may be known to be behind.",
		}, a.journaled),
		server.Handle(server.Endpoint{
			ID: "captured", Group: "Keys", Method: http.MethodGet, Path: of + "/captured", Needs: server.NeedsApplication,
			Summary: "Read how far change capture has come",
			About:   "For instances that compare. With `alone` a difference counts only if it is still there once `caught_up_at` is not before the `at` of an answer that was read after legacy.",
		}, a.captured),
		server.Handle(server.Endpoint{
			ID: "return", Group: "Keys", Method: http.MethodPost, Path: of + "/return", Needs: server.NeedsApplication, Body: server.MostBody,
			Summary: "Record keys that legacy lacks, in retain",
			About:   "Before the target is written, where the grant is `reversible`. Without success the write must not be made: the rollback would not replay it.",
			Repeat:  "a key that is recorded twice is replayed once.",
			Errors:  []server.Code{server.RouteMoved, server.TargetLost},
		}, a.returnKeys),
		server.Handle(server.Endpoint{
			ID: "emergencyRollback", Group: "Route", Method: http.MethodPost, Path: of + "/rollback", Needs: server.NeedsApplication, Within: phases.EmergencyPatience + phases.StatementWithin,
			Summary: "Roll back to reads from legacy, because the target refused a write",
			About:   "For a write that legacy has, that the target lacks, and that could not be journaled. `route-moved`: authority is moving or has moved, and legacy can't serve the reads.",
			Repeat:  "where reads come from legacy already, it does nothing.",
			Errors:  []server.Code{server.RouteMoved, server.RouteConflict},
		}, a.rollback),
		server.Handle(server.Endpoint{
			ID: "routes", Group: "Route", Method: http.MethodGet, Path: of + "/routes", Needs: server.NeedsApplication,
			Summary: "Get the present route, and those that instances may be on",
		}, a.routes),
		server.Handle(server.Endpoint{
			ID: "applied", Group: "Route", Method: http.MethodGet, Path: of + "/applied", Needs: server.NeedsApplication,
			Summary: "Get the applied migration file, and the columns that are moved",
			About:   "An instance that moves by this answer, and by nothing else, gives its `moves` to Join: from shadow-write on a lease is refused to one that does not say what it moves, or moves something else. It reads the answer again when a grant has another `config_hash`.",
		}, a.applied),
		server.Handle(server.Endpoint{
			ID: "reportStateLoss", Group: "Route", Method: http.MethodPost, Path: of + "/state-loss", Needs: server.NeedsApplication,
			Summary: "Report a route of a later epoch than the state's",
			About:   "The state was restored from a backup. From then on no advance is possible, and each move takes an epoch above the reported one.",
			Repeat:  "an epoch is recorded once.",
		}, a.reportStateLoss),
		server.Epochs(server.Endpoint{
			ID: "events", Group: "Route", Method: http.MethodGet, Path: of + "/events", Needs: server.NeedsAny,
			Summary: "Follow the migration's epochs",
			About:   "Server-sent events: `event: epoch` with `data: {\"epoch\": N}` for the present epoch and for each that follows, and a comment each 5 s. An event is a reason to renew at once, and nothing more: a client must renew without events too. The stream ends when the token ends; reconnect after a second.",
		}),
	}
}

func (a *API) fleet(c *server.Call, leaseMS, renewMS int64) (*pgfleet.Fleet, error) {
	if leaseMS < 0 || leaseMS > phases.LongestLease.Milliseconds() || renewMS < 0 || renewMS > phases.LongestLease.Milliseconds() {
		return nil, server.NewProblem(server.BadRequest, "/lease_ms or /renew_ms is out of range: want 0 to %d", phases.LongestLease.Milliseconds())
	}
	return pgfleet.New(a.State.Pool(), c.Param("migration"), pgfleet.Options{
		Lease: time.Duration(leaseMS) * time.Millisecond, Renew: time.Duration(renewMS) * time.Millisecond,
	}), nil
}

var aLease = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)

func (a *API) join(ctx context.Context, c *server.Call, q leasewire.JoinRequest) (leasewire.Grant, error) {
	f, err := a.fleet(c, q.LeaseMS, q.RenewMS)
	switch {
	case err != nil:
		return leasewire.Grant{}, err
	case !aLease.MatchString(q.Lease):
		return leasewire.Grant{}, server.NewProblem(server.BadRequest, "/lease: want 16 to 64 letters, digits, - and _, made at random")
	case q.Instance == "" || len(q.Instance) > statedb.MaxText:
		return leasewire.Grant{}, server.NewProblem(server.BadRequest, "/instance: want a name of 1 to %d bytes", statedb.MaxText)
	}
	g, err := f.JoinAs(ctx, q.Lease, dual.Identity{Instance: q.Instance, About: q.About, Moves: q.Moves, Previous: q.Previous})
	return leasewire.GrantOf(g), err
}

func (a *API) renew(ctx context.Context, c *server.Call, q leasewire.RenewRequest) (leasewire.Grant, error) {
	f, err := a.fleet(c, q.LeaseMS, q.RenewMS)
	if err != nil {
		return leasewire.Grant{}, err
	}
	g, err := f.Renew(ctx, c.Param("id"), q.Acknowledged)
	return leasewire.GrantOf(g), err
}

func (a *API) leave(ctx context.Context, c *server.Call, _ server.None) (server.None, error) {
	f, err := a.fleet(c, 0, 0)
	if err == nil {
		err = f.Leave(ctx, c.Param("id"))
	}
	return server.None{}, err
}

func (a *API) observe(ctx context.Context, c *server.Call, q leasewire.WindowsRequest) (server.None, error) {
	windows, err := q.Telemetry()
	if err != nil {
		return server.None{}, server.NewProblem(server.BadRequest, "%s", err)
	}
	f, err := a.fleet(c, 0, 0)
	if err == nil {
		err = f.Observe(ctx, c.Param("id"), windows)
	}
	return server.None{}, err
}

func (a *API) fault(ctx context.Context, c *server.Call, q leasewire.FaultRequest) (leasewire.Fault, error) {
	f, err := a.fleet(c, 0, 0)
	if err != nil {
		return leasewire.Fault{}, err
	}
	fault, err := f.Fault(ctx, c.Param("id"), q.Dual())
	return leasewire.FaultOf(fault), err
}

// mostKeys are those of one request: a statement with more would keep the migration's row locked for long.
const mostKeys = 10_000

func tooMany(n int) error {
	if n > mostKeys {
		return server.NewProblem(server.BadRequest, "%d keys: want %d at most", n, mostKeys).WithTry("several requests")
	}
	return nil
}

func (a *API) journal(ctx context.Context, c *server.Call, q leasewire.JournalRequest) (leasewire.JournalResult, error) {
	f, err := a.fleet(c, 0, 0)
	if err == nil {
		err = tooMany(len(q.Entries))
	}
	if err != nil {
		return leasewire.JournalResult{}, err
	}
	r, err := f.Journal(ctx, q.Dual())
	return leasewire.JournalResult{Route: r.Route, TargetRead: r.TargetRead, Fenced: r.Fenced}, err
}

func (a *API) journaled(ctx context.Context, c *server.Call, _ server.None) (leasewire.Journaled, error) {
	var key leasewire.Key
	if err := key.UnmarshalText([]byte(leasewire.OfPath(c.Param("key")))); err != nil {
		return leasewire.Journaled{}, server.NewProblem(server.BadRequest, "the path's key: %s", err)
	}
	f, err := a.fleet(c, 0, 0)
	if err != nil {
		return leasewire.Journaled{}, err
	}
	has, err := f.HasJournaled(ctx, record.Key(key))
	return leasewire.Journaled{Journaled: has}, err
}

func (a *API) captured(ctx context.Context, c *server.Call, _ server.None) (leasewire.Captured, error) {
	f, err := a.fleet(c, 0, 0)
	if err != nil {
		return leasewire.Captured{}, err
	}
	got, err := f.Captured(ctx)
	return leasewire.Captured(got), err
}

func (a *API) returnKeys(ctx context.Context, c *server.Call, q leasewire.ReturnRequest) (server.None, error) {
	f, err := a.fleet(c, 0, 0)
	if err == nil {
		err = tooMany(len(q.Keys))
	}
	if err == nil {
		err = f.Return(ctx, q.Epoch, q.Records())
	}
	return server.None{}, err
}

func (a *API) rollback(ctx context.Context, c *server.Call, q leasewire.RollbackRequest) (server.None, error) {
	f, err := a.fleet(c, 0, 0)
	if err == nil {
		err = f.RollBack(ctx, q.Epoch, q.Reason)
	}
	return server.None{}, err
}

func (a *API) routes(ctx context.Context, c *server.Call, _ server.None) (leasewire.Routes, error) {
	f, err := a.fleet(c, 0, 0)
	if err != nil {
		return leasewire.Routes{}, err
	}
	present, live, err := f.Routes(ctx)
	return leasewire.Routes{Route: present, Live: leasewire.LiveOf(live), TargetRead: statedb.AnyReadsTarget(present, live)}, err
}

func (a *API) applied(ctx context.Context, c *server.Call, _ server.None) (leasewire.Applied, error) {
	f, err := a.fleet(c, 0, 0)
	if err != nil {
		return leasewire.Applied{}, err
	}
	file, columns, former, err := f.Applied(ctx)
	if err != nil {
		return leasewire.Applied{}, err
	}
	d := leasewire.Applied{File: file}
	if m, err := openstore.Stored(file); err == nil && columns != nil { // a file of another release may not be read
		m.Schema = columns
		d.Moves = m.Moves()
	}
	for _, part := range []struct {
		from *record.Schema
		to   *json.RawMessage
	}{{columns, &d.Columns}, {former, &d.Former}} {
		if part.from == nil {
			continue
		}
		if *part.to, err = json.Marshal(part.from); err != nil {
			return leasewire.Applied{}, err
		}
	}
	return d, nil
}

func (a *API) reportStateLoss(ctx context.Context, c *server.Call, q leasewire.StateLossRequest) (server.None, error) {
	if strings.TrimSpace(q.Instance) == "" {
		return server.None{}, server.NewProblem(server.BadRequest, "/instance: want the instance's name")
	}
	return server.None{}, statedb.RecordStateLoss(ctx, a.State.Pool(), c.Param("migration"), q.Instance, q.Route)
}
