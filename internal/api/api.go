package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// API are the operations on a state.
type API struct {
	State *state.Store // of [state.Store.ForTokens]: each statement is made with its caller's token
	// Try is a remedy as text; nil: its action and subjects.
	Try func(hint.Hint) string
	// File is the migration's file as this daemon has it, and its path: a step that touches the stores needs it. It may
	// return nil; nil: there are none.
	File func(migration string) (*migration.Config, string)
}

// Published is what a daemon's directory has: the routes of a state and its valid tokens.
func Published(ctx context.Context, s *state.Store) (p server.Published, err error) {
	began := time.Now() // a token's life is counted from before it was read
	routes, bearers, err := s.Publication(ctx)
	if err != nil {
		return p, err
	}
	for _, r := range routes {
		p.Routes = append(p.Routes, server.PublishedRoute{Migration: r.Migration, Route: r.Route, Lease: r.Lease})
	}
	p.Bearers = make(map[[sha256.Size]byte]server.Bearer, len(bearers))
	for hash, b := range bearers {
		p.Bearers[hash] = server.Bearer{ID: b.ID, Until: began.Add(b.Lives), Migrations: b.Migrations}
	}
	return p, nil
}

// List is the table of all operations, in the reference's order.
func (a *API) List() []server.Endpoint {
	return slices.Concat(a.leases(), a.reads(), a.verbs())
}

// Explain makes a problem of the state's errors. What names hosts and roles of the database stays in the daemon's log.
func (a *API) Explain(err error) *server.Problem {
	p := a.explain(err)
	if remedy, ok := hint.Of(err); ok && p.Try == "" && p.Code != server.Internal && p.Code != server.StateUnreachable {
		p.Try = a.remedy(remedy)
	}
	return p
}

func (a *API) remedy(h hint.Hint) string {
	if a.Try == nil {
		return h.String()
	}
	return a.Try(h)
}

func (a *API) explain(err error) *server.Problem {
	says := func(code server.Code) *server.Problem { return server.NewProblem(code, "%s", oneline.Of(err.Error())) }
	var conflict *phases.RouteConflictError
	var refused *statedb.NotAllowedError
	var closed *control.GatesClosedError
	var drift *app.DriftError
	var unknownRun *reconciles.UnknownRunError
	var refusedStep *control.InputError
	var input *app.InputError
	switch {
	case errors.As(err, &conflict):
		p := says(server.RouteConflict)
		p.Live = &server.Conflict{To: conflict.To, Live: conflict.Live}
		return p
	case errors.Is(err, dual.ErrLeaseLost):
		return says(server.LeaseLost)
	case errors.Is(err, pgfleet.ErrLeaseTaken):
		return says(server.LeaseTaken)
	case errors.Is(err, dual.ErrOtherMoves):
		return says(server.OtherMoves)
	case errors.Is(err, dual.ErrRouteMoved):
		return says(server.RouteMoved)
	case errors.Is(err, dual.ErrTargetLost):
		return says(server.TargetLost)
	case errors.Is(err, statedb.ErrUnknownMigration):
		return says(server.UnknownMigration)
	case statedb.IsBadToken(err):
		return server.NewProblem(server.BadToken, "the token is unknown, has expired or was revoked")
	case statedb.IsNoServer(err):
		return server.NewProblem(server.Misconfigured, "the daemon's own role may not act for tokens; its log has the error")
	case errors.As(err, &refused):
		return says(server.NoGrant)
	case errors.As(err, &closed):
		p := says(server.GatesClosed)
		p.Gates = closed.Gates
		return p
	case errors.As(err, &unknownRun):
		return says(server.UnknownRun)
	case app.IsNotYet(err), errors.As(err, &drift): // the file is this daemon's, not the caller's
		return says(server.NotYet)
	case errors.As(err, &refusedStep), errors.As(err, &input): // no other input is the caller's
		return says(server.BadRequest)
	case away(err):
		return server.NewProblem(server.StateUnreachable, "the state database does not answer; the daemon's log has the error")
	}
	switch pgfail.SQLState(err) {
	case pgfail.InvalidParameter, pgfail.CheckViolation:
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			return server.NewProblem(server.BadRequest, "%s", oneline.Of(pg.Message))
		}
	case pgfail.NoData: // of migrator.witness
		return server.NewProblem(server.UnknownMigration, "%s", statedb.ErrUnknownMigration)
	case pgfail.NotInState:
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			return server.NewProblem(server.NotInState, "%s", oneline.Of(pg.Message))
		}
	case pgfail.NoPrivilege:
		return server.NewProblem(server.Misconfigured, "the daemon's own role lacks a privilege in the state database; its log has the error")
	}
	return server.NewProblem(server.Internal, "the operation failed; the daemon's log has the error")
}

// away reports whether the outcome is unknown, or nothing was done, because the state database did not answer.
func away(err error) bool {
	var failed *pgconn.ConnectError
	var network net.Error
	return statedb.Away(err) || errors.Is(err, statedb.ErrSlow) || errors.As(err, &failed) || errors.As(err, &network) ||
		errors.Is(err, context.DeadlineExceeded) || pgfail.SQLState(err) == pgfail.LockTimeout || pgfail.SQLState(err) == pgfail.Canceled ||
		pgfail.SQLState(err) == pgfail.ReadOnly || pgfail.SQLState(err) == pgfail.TooMany
}
