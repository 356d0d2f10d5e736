package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// moveWithin is how long a move may take: an advance waits for the fleet, and a fence and a return for much more.
const moveWithin = 15 * time.Minute

// mostListed is the most entries, runs or findings of one answer.
const mostListed = 1000

// reads are what the commands that change nothing print with -o json.
func (a *API) reads() []server.Endpoint {
	get := func(id, path, summary, about string, limits ...int) server.Endpoint {
		e := server.Endpoint{ID: id, Group: "Migrations", Method: http.MethodGet, Path: path, Needs: server.NeedsViewer, Summary: summary, About: about}
		for _, n := range limits {
			e.Queries = append(e.Queries, server.Query{Name: "limit", About: "the newest ones, up to 1000", Default: n})
		}
		return e
	}
	return []server.Endpoint{
		server.Handle(get("migrations", "/migrations", "List the migrations that the token may see", "Those of the whole state database, whichever daemon leads them."), a.migrations),
		server.Handle(get("status", of, "Get a migration's status", "An entry of what the command `status` prints as JSON: [json.md](json.md)."), a.status),
		server.Handle(get("gates", of+"/gates", "List the gates before the next step and the next phase", "As the command `gate list` prints them as JSON."), a.gates),
		server.Handle(get("triggers", of+"/triggers", "List triggers and the newest automatic rollback", "As the command `trigger list` prints them as JSON."), a.triggers),
		server.Handle(get("instances", of+"/leases", "List instances with the epoch that each has acknowledged", "As the command `fleet list` prints them as JSON."), a.instances),
		server.Handle(get("history", of+"/history", "List the migration's moves", "As the command `phase history` prints them as JSON: the newest entries, in the order in which they were made.", 50), a.history),
		server.Handle(get("runs", of+"/reconciles", "List the newest reconcile runs", "As the command `reconcile list` prints them as JSON.", 20), a.runs),
		server.Handle(get("run", of+"/reconciles/{run}", "Get one reconcile run with its findings", "As the command `reconcile show` prints it as JSON. Findings have keys, and values only where the run was made with them.", 100), a.run),
	}
}

// verbs are what the commands of migrator phase do.
func (a *API) verbs() []server.Endpoint {
	verb := func(verb app.Verb, needs server.Grant, summary, about, repeat string, codes ...server.Code) server.Endpoint {
		return server.Endpoint{
			ID: string(verb), Group: "Phase", Method: http.MethodPost, Path: of + "/phase/" + string(verb), Needs: needs,
			Summary: summary, About: about + " As the command `phase " + string(verb) + "`. The history has the token and the role that it is of.", Repeat: repeat,
			Errors: append(codes, server.BadRequest, server.NotYet, server.NotInState), Within: 30 * time.Second,
		}
	}
	long := func(e server.Endpoint) server.Endpoint {
		e.Within = moveWithin
		return e
	}
	return []server.Endpoint{
		server.Handle(long(verb(app.VerbAdvance, server.NeedsOperator, "Take the next step, if its gates are open",
			"It waits until the fleet has settled on the step, or says in `waits_for` that it has not yet. A step that touches the stores needs a daemon that serves the migration's file.",
			"`epoch` names the route that the caller has seen: once the step is taken, the same request is refused with `not-yet`.", server.GatesClosed)), a.advance),
		server.Handle(long(verb(app.VerbRollback, server.NeedsOperator, "Roll back at once; no gate can block it",
			"To where legacy serves reads; from retain, and with `to`, further. The command has options for what legacy refuses or the target has lost.",
			"where the migration is there already, nothing is changed: `moves` is empty.")), a.rollBack),
		server.Handle(verb(app.VerbApprove, server.NeedsDecider, "Approve the step into the next phase",
			"As the role of the token, which must be a member of `phases.approval.role`. It is valid in the present epoch and under the present configuration, until it expires.",
			"it approves again: the newest approval counts."), a.approve),
		server.Handle(verb(app.VerbPause, server.NeedsDecider, "Block every advance until resume; rollbacks stay possible", "It needs a reason.", "it stays paused, with the newest reason."), a.change(app.VerbPause, "paused")),
		server.Handle(verb(app.VerbResume, server.NeedsDecider, "End a pause", "", "it changes nothing where nothing is paused."), a.change(app.VerbResume, "resumed")),
		server.Handle(verb(app.VerbAcknowledge, server.NeedsDecider, "Acknowledge an automatic rollback, so that advances can continue", "It needs a reason.", "it changes nothing where no rollback waits for it."), a.change(app.VerbAcknowledge, "acknowledged")),
	}
}

// Migration is one of a list.
type Migration struct {
	Name  string       `json:"name"`
	Route phases.Route `json:"route"`
}

// Migrations is a list of them.
type Migrations struct {
	Migrations []Migration `json:"migrations"`
}

// Answers that are lists are a member of an object, so that others may follow.
type (
	// Gates is a list of gates.
	Gates struct {
		Gates []app.GateView `json:"gates"`
	}
	// Instances is a list of leases.
	Instances struct {
		Instances []phases.Lease `json:"instances"`
	}
	// History is a list of its entries.
	History struct {
		Entries []state.Entry `json:"entries"`
	}
	// Runs is a list of reconcile runs.
	Runs struct {
		Runs []app.ListedRun `json:"runs"`
	}
)

func (a *API) migrations(ctx context.Context, _ *server.Call, _ server.None) (Migrations, error) {
	list, err := a.State.List(ctx)
	found := Migrations{Migrations: []Migration{}}
	for _, s := range list {
		found.Migrations = append(found.Migrations, Migration{s.Migration, s.Route})
	}
	return found, err
}

func (a *API) status(ctx context.Context, c *server.Call, _ server.None) (app.Status, error) {
	return app.ReadStatus(ctx, a.State, c.Param("migration"))
}

func (a *API) gates(ctx context.Context, c *server.Call, _ server.None) (Gates, error) {
	views, _, _, err := app.ReadGates(ctx, a.State, c.Param("migration"))
	return Gates{views}, err
}

func (a *API) triggers(ctx context.Context, c *server.Call, _ server.None) (app.Triggers, error) {
	list, _, err := app.ReadTriggers(ctx, a.State, c.Param("migration"))
	return list, err
}

func (a *API) instances(ctx context.Context, c *server.Call, _ server.None) (Instances, error) {
	// Read first: leases are of a migration that the caller may see.
	if _, err := a.State.Status(ctx, c.Param("migration")); err != nil {
		return Instances{}, err
	}
	leases, err := a.State.Leases(ctx, c.Param("migration"))
	return Instances{append([]phases.Lease{}, leases...)}, err
}

func (a *API) history(ctx context.Context, c *server.Call, _ server.None) (History, error) {
	limit, err := c.Number("limit", 50, mostListed)
	if err != nil {
		return History{}, err
	}
	entries, err := a.State.History(ctx, c.Param("migration"), limit)
	return History{append([]state.Entry{}, entries...)}, err
}

func (a *API) runs(ctx context.Context, c *server.Call, _ server.None) (Runs, error) {
	limit, err := c.Number("limit", 20, mostListed)
	if err != nil {
		return Runs{}, err
	}
	if _, err := a.State.Status(ctx, c.Param("migration")); err != nil {
		return Runs{}, err
	}
	runs, err := app.ListRuns(ctx, a.State, c.Param("migration"), limit)
	return Runs{append([]app.ListedRun{}, runs...)}, err
}

func (a *API) run(ctx context.Context, c *server.Call, _ server.None) (app.Reconciled, error) {
	limit, err := c.Number("limit", 100, mostListed)
	if err != nil {
		return app.Reconciled{}, err
	}
	id, err := server.Number("the path's run", c.Param("run"), 1<<53)
	if err != nil {
		return app.Reconciled{}, err
	}
	return app.ReadRun(ctx, a.State, c.Param("migration"), id, limit)
}

// require refuses a caller whose role has none of the kinds of grant for the migration, before anything is read: a
// viewer's dry run would be an answer, and a row that it may not lock would be none.
func (a *API) require(ctx context.Context, c *server.Call, kinds ...state.Kind) error {
	name := c.Param("migration")
	for _, kind := range kinds {
		if may, err := a.State.May(ctx, kind, name); may || err != nil {
			return err
		}
	}
	return server.NewProblem(server.NoGrant, "the token's role has no grant of the kind %s for the migration %s", kinds[0], oneline.Of(name)).
		WithTry(a.remedy(hint.Hint{Do: hint.GrantOperator}))
}

// MoveRequest asks for a step.
type MoveRequest struct {
	Epoch  int64        `json:"epoch" jsonschema_description:"of the route that the caller has seen: in another one nothing is done"`
	To     phases.Phase `json:"to,omitempty" jsonschema_description:"of rollback: where to, one move after the other; of advance: must be the next phase"`
	Reason string       `json:"reason,omitempty" jsonschema_description:"for the history"`
	DryRun bool         `json:"dry_run,omitempty" jsonschema_description:"do all of it, and change nothing"`
}

// Advanced is a step.
type Advanced struct {
	From     phases.Route        `json:"from"`
	To       phases.Route        `json:"to"`
	Gates    []phases.GateResult `json:"gates"`
	Done     bool                `json:"done"`
	Settled  bool                `json:"settled" jsonschema_description:"every instance is on it"`
	WaitsFor string              `json:"waits_for,omitempty" jsonschema_description:"why it is not settled; the step is taken all the same"`
}

// RolledBack has the moves of a rollback.
type RolledBack struct {
	Moves    []phases.Route `json:"moves"`
	Seconds  float64        `json:"seconds"`
	Settled  bool           `json:"settled" jsonschema_description:"every instance is on the last one"`
	WaitsFor string         `json:"waits_for,omitempty" jsonschema_description:"why it is not settled; the moves are made all the same"`
	DryRun   bool           `json:"dry_run,omitempty"`
}

// ChangeRequest asks for a change that is no move.
type ChangeRequest struct {
	To     phases.Phase `json:"to,omitempty" jsonschema_description:"of approve: the phase whose entry is approved; absent: the next one"`
	Reason string       `json:"reason,omitempty" jsonschema_description:"for the history, and for the next operator"`
	DryRun bool         `json:"dry_run,omitempty" jsonschema_description:"do all of it, and change nothing"`
}

// Changed is a change that is no move.
type Changed struct {
	Migration string `json:"migration"`
	Result    string `json:"result"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

// move takes a step; waits is why it is not settled.
func (a *API) move(ctx context.Context, c *server.Call, verb app.Verb, q MoveRequest) (did app.Acted, waits string, err error) {
	if err := a.require(ctx, c, state.Operator); err != nil {
		return did, "", err
	}
	if q.Epoch <= 0 {
		return did, "", server.NewProblem(server.BadRequest, "/epoch: want the epoch of the route that you have seen").WithTry("GET " + server.Base + of)
	}
	order := app.Act{Verb: verb, Migration: c.Param("migration"), To: q.To, Seen: q.Epoch, Reason: q.Reason, DryRun: q.DryRun}
	if a.File != nil {
		order.File, order.Path = a.File(order.Migration)
	}
	did, err = order.Do(ctx, a.State)
	var unsettled *control.UnsettledError
	if errors.As(err, &unsettled) { // the step is taken: to call it refused would have it taken twice
		return did, oneline.Of(unsettled.Error()), nil
	}
	return did, "", err
}

func (a *API) advance(ctx context.Context, c *server.Call, q MoveRequest) (Advanced, error) {
	did, waits, err := a.move(ctx, c, app.VerbAdvance, q)
	done := err == nil && !q.DryRun && did.From != did.To
	return Advanced{did.From, did.To, append([]phases.GateResult{}, did.Gates...), done, done && waits == "", waits}, err
}

func (a *API) rollBack(ctx context.Context, c *server.Call, q MoveRequest) (RolledBack, error) {
	began := time.Now()
	did, waits, err := a.move(ctx, c, app.VerbRollback, q)
	return RolledBack{append([]phases.Route{}, did.Moves...), time.Since(began).Seconds(), !q.DryRun && waits == "", waits, q.DryRun}, err
}

func (a *API) approve(ctx context.Context, c *server.Call, q ChangeRequest) (phases.Approval, error) {
	if err := a.require(ctx, c, state.Decider, state.Operator); err != nil {
		return phases.Approval{}, err
	}
	did, err := app.Act{Verb: app.VerbApprove, Migration: c.Param("migration"), To: q.To, Reason: q.Reason, DryRun: q.DryRun}.Do(ctx, a.State)
	if err != nil {
		return phases.Approval{}, err
	}
	return *did.Approval, nil
}

func (a *API) change(verb app.Verb, result string) func(ctx context.Context, c *server.Call, q ChangeRequest) (Changed, error) {
	return func(ctx context.Context, c *server.Call, q ChangeRequest) (Changed, error) {
		if err := a.require(ctx, c, state.Operator, state.Decider); err != nil {
			return Changed{}, err
		}
		switch {
		case q.To != "":
			return Changed{}, server.NewProblem(server.BadRequest, "/to: %s leads into no phase", verb)
		case verb != app.VerbResume && strings.TrimSpace(q.Reason) == "":
			return Changed{}, server.NewProblem(server.BadRequest, "/reason: give one, for the history and for the next operator")
		}
		_, err := app.Act{Verb: verb, Migration: c.Param("migration"), Reason: q.Reason, DryRun: q.DryRun}.Do(ctx, a.State)
		return Changed{c.Param("migration"), result, q.DryRun}, err
	}
}
