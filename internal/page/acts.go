package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// button is a verb as the page offers it.
type button struct {
	Verb   app.Verb
	Name   string
	Says   string // what it does, whatever the migration
	Needs  bool   // a reason
	Danger bool
}

var buttons = []button{
	{app.VerbAdvance, "Advance", "Takes the next step, if its gates are open.", false, false},
	{app.VerbApprove, "Approve", "Approves the step into the next phase, in this epoch and under this configuration, until the approval expires.", false, false},
	{app.VerbPause, "Pause", "Blocks every advance until it is resumed. Rollbacks stay possible.", true, false},
	{app.VerbResume, "Resume", "Ends the pause.", false, false},
	{app.VerbAcknowledge, "Acknowledge", "Acknowledges the automatic rollback, so that advances can continue.", true, false},
	{app.VerbRollback, "Roll back", "Leads back to where legacy serves reads, or out of the fence. No gate can block it.", false, true},
}

// Buttons are those that make sense now.
func (s shown) Buttons() (all []button) {
	for _, b := range buttons {
		switch b.Verb {
		case app.VerbPause:
			if s.St().Paused != "" {
				continue
			}
		case app.VerbResume:
			if s.St().Paused == "" {
				continue
			}
		case app.VerbAcknowledge:
			if s.Snapshot.Latch == nil {
				continue
			}
		case app.VerbApprove:
			if !slices.ContainsFunc(s.Gates, func(g Gate) bool { return g.Gate == "approved" }) {
				continue
			}
		case app.VerbAdvance:
			if s.Next == nil {
				continue
			}
		}
		all = append(all, b)
	}
	return all
}

// act is a button's question, and what came of it.
type act struct {
	button
	Migration string
	Would     app.Acted // of the dry run
	Rollback  phases.Rollback
	Stop      string // how long writes wait
	After     phases.Rollback
	Phases    []phases.Phase // that a rollback can lead to
	To        phases.Phase
	Trouble   string // why it would be refused
	Remedy    string
	Seen      int64 // the epoch that the question is about
	*doing          // nil: it was not confirmed yet
}

// Begun reports whether the act was confirmed.
func (a *act) Begun() bool { return a.doing != nil }

// Number names it in this process.
func (a *act) Number() int64 { return a.ID }

// Goal is the phase that a rollback leads to.
func (a *act) Goal() phases.Phase { return a.Would.To.Phase }

// Means describes a route.
func (a *act) Means(r phases.Route) string { return means(r) }

func means(r phases.Route) string {
	b := r.Behaviour()
	reads := map[phases.Reads]string{
		phases.ReadsLegacy: "reads come from legacy", phases.ReadsSplit: "reads of " + r.Percent.String() + " % of keys come from the target",
		phases.ReadsTarget: "reads come from the target",
	}[b.Reads]
	if b.Fallback {
		reads += ", with legacy behind it"
	}
	return reads + ", " + map[phases.Writes]string{
		phases.WritesLegacy: "writes go to legacy alone", phases.WritesBackground: "writes go to legacy, and to the target in the background",
		phases.WritesBoth: "writes go to both stores", phases.WritesTarget: "writes go to the target alone", phases.WritesWait: "writes wait",
	}[b.Writes]
}

// doing is an act that runs, or has ended.
type doing struct {
	ID    int64
	Who   string
	Began time.Time
	role  string // who may see it

	mu      sync.Mutex
	Lines   []string
	Ended   time.Time
	Error   string
	ErrorDo string
	Did     app.Acted
	Is      phases.Status // as the state has it afterwards
}

// report adds a line of progress.
func (d *doing) report(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Lines = append(d.Lines, line)
}

// copied is the act as of now.
func (d *doing) copied() *doing {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &doing{
		ID: d.ID, Who: d.Who, Began: d.Began, role: d.role, Lines: slices.Clone(d.Lines), Ended: d.Ended, Error: d.Error, ErrorDo: d.ErrorDo, Did: d.Did, Is: d.Is,
	}
}

// acts are those of this process, the newest last.
type acts struct {
	mu     sync.Mutex
	base   context.Context // of Run; nil: it does not run
	number int64
	all    []*act
	under  sync.WaitGroup
	calls  *state.Store // for the callers' tokens, with connections that no caller of the HTTP API uses; nil: not opened yet
}

const (
	actsKept  = 100
	dryWithin = 20 * time.Second
)

// store is the state for callers' tokens.
func (p *Page) store(ctx context.Context) (*state.Store, error) {
	a := &p.acts
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.base == nil || a.base.Err() != nil {
		return nil, errors.New("this process is ending")
	}
	if a.calls == nil {
		calls, err := p.State.ForTokens(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		a.calls = calls
	}
	return a.calls, nil
}

// begin and end bound the time in which acts are taken.
func (s *acts) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = ctx
}

func (s *acts) end() {
	s.mu.Lock()
	s.base = nil // no other one begins
	s.mu.Unlock()
	s.under.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls != nil {
		s.calls.Close()
		s.calls = nil
	}
}

// question reads a request for an act; it answers if that can't be.
func (p *Page) question(w http.ResponseWriter, r *http.Request) (a *act, v view, ok bool) {
	name := r.PathValue("migration")
	at := slices.IndexFunc(buttons, func(b button) bool { return string(b.Verb) == r.PathValue("verb") })
	if at < 0 {
		p.fail(w, r, http.StatusNotFound, errors.New("there is no such button"))
		return nil, v, false
	}
	b, picture, err := p.full(r.Context(), name)
	if !p.found(w, r, picture, err) {
		return nil, v, false
	}
	if b.Down != "" {
		p.fail(w, r, http.StatusServiceUnavailable, fmt.Errorf("%s: buttons are off until it does", b.Down))
		return nil, v, false
	}
	st := picture.Status.Status
	a = &act{button: buttons[at], Migration: name, Seen: st.Route.Epoch, Rollback: picture.Rollback, Stop: stopText(st)}
	if to := phases.Phase(r.FormValue("to")); to != "" && slices.Contains(phases.Order, to) {
		a.To = to
	}
	return a, view{Title: a.Name + " " + name, Board: b, Picture: picture, Act: a}, true
}

// order is what the act asks of the state.
func (p *Page) order(a *act, dry bool, report func(string)) app.Act {
	o := app.Act{Verb: a.Verb, Migration: a.Migration, To: a.To, Seen: a.Seen, DryRun: dry, Report: report}
	if p.File != nil {
		o.File, o.Path = p.File(a.Migration)
	}
	return o
}

// showQuestion shows what the act would do, by doing all of it but the change.
func (p *Page) showQuestion(w http.ResponseWriter, r *http.Request) {
	one := p.sessions.of(r, false)
	if one == nil {
		p.show(w, r, http.StatusUnauthorized, view{Title: "Sign in", Board: p.present.Load(), SignIn: true, After: pathOf(r.PathValue("migration")), Trouble: "Buttons need a token."}, nil)
		return
	}
	a, v, ok := p.question(w, r)
	if !ok {
		return
	}
	p.dryRun(r.Context(), one, a, v.Picture)
	p.show(w, r, http.StatusOK, v, nil)
}

func (p *Page) dryRun(ctx context.Context, one *session, a *act, picture *Picture) {
	ctx, cancel := context.WithTimeout(ctx, dryWithin)
	defer cancel()
	st := picture.Status.Status
	if a.Verb == app.VerbRollback {
		for _, to := range phases.Order {
			if path, err := control.RollbackPath(st.Route, control.Rollback{To: to}); err == nil && len(path) > 0 {
				a.Phases = append(a.Phases, to)
			}
		}
	}
	store, err := p.store(ctx)
	if err == nil {
		a.Would, err = p.order(a, true, nil).Do(statedb.WithToken(ctx, one.token), store)
	}
	if a.Would.To == (phases.Route{}) {
		a.Would.From, a.Would.To = st.Route, st.Route
	}
	after := st
	after.Route = a.Would.To
	a.After = phases.ClassOf(after)
	if err == nil && a.Verb == app.VerbRollback && len(a.Would.Moves) == 0 {
		err = errors.New("reads come from legacy already: without a phase a rollback changes nothing; choose one to go further")
	}
	a.Trouble, a.Remedy = p.explain(a.Migration, err)
}

// explain is an error, and what helps, for the page. The texts of the state's refusals are for people; other errors of the
// database name hosts and roles.
func (p *Page) explain(migration string, err error) (text, remedy string) {
	if err == nil {
		return "", ""
	}
	h, _ := hint.Of(err)
	if !h.IsZero() {
		remedy = p.Remedy(migration, h)
	}
	switch {
	case statedb.IsBadToken(err):
		return "the token of this session is not valid any more: it has expired or was revoked", remedy
	case state.Away(err):
		return "the state database does not answer", remedy
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long", remedy
	}
	return err.Error(), remedy
}

// confirmed takes the act. It goes on if the browser is closed.
func (p *Page) confirmed(w http.ResponseWriter, r *http.Request, one *session) {
	a, v, ok := p.question(w, r)
	if !ok {
		return
	}
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	a.Seen, _ = strconv.ParseInt(r.PostFormValue("seen"), 10, 64)
	if a.Seen == 0 || a.Needs && reason == "" {
		p.dryRun(r.Context(), one, a, v.Picture)
		a.Seen = v.Picture.Status.Status.Route.Epoch
		v.Trouble = "give a reason: it is for the history, and for the next operator"
		p.show(w, r, http.StatusUnprocessableEntity, v, nil)
		return
	}
	store, err := p.store(r.Context())
	if err != nil {
		p.fail(w, r, http.StatusServiceUnavailable, err)
		return
	}
	base, d := p.acts.start(a, one.bearer)
	if d == nil {
		p.fail(w, r, http.StatusServiceUnavailable, errors.New("this process is ending; nothing was changed"))
		return
	}
	go func() {
		defer p.acts.under.Done()
		ctx := statedb.WithToken(base, one.token)
		order := p.order(a, false, d.report)
		order.Reason = reason
		did, err := order.Do(ctx, store)
		p.finish(context.WithoutCancel(base), d, a, did, err)
	}()
	http.Redirect(w, r, pathOf(a.Migration, "do", a.Verb, d.ID), http.StatusSeeOther)
}

// start notes that an act begins; nil: the process is ending.
func (s *acts) start(a *act, by state.Bearer) (context.Context, *doing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base == nil || s.base.Err() != nil {
		return nil, nil
	}
	s.under.Add(1)
	s.number++
	a.doing = &doing{ID: s.number, Who: fmt.Sprintf("%s (token %d)", by.Role, by.ID), role: by.Role, Began: time.Now()}
	s.all = append(s.all, a)
	s.all = s.all[max(0, len(s.all)-actsKept):]
	return s.base, a.doing
}

func (p *Page) finish(ctx context.Context, d *doing, a *act, did app.Acted, err error) {
	ctx, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	is, _ := p.State.Status(ctx, a.Migration)
	text, remedy := p.explain(a.Migration, err)
	log := p.Log.With("migration", a.Migration, "verb", string(a.Verb), "who", d.Who)
	if err != nil {
		log.Warn("a button's step was refused or failed", "error", err, hint.Attr(err))
	} else {
		log.Info("a button's step was taken", "from", did.From.String(), "to", did.To.String())
	}
	d.mu.Lock()
	d.Ended, d.Did, d.Is, d.Error, d.ErrorDo = time.Now(), did, is, text, remedy
	d.mu.Unlock()
	p.refreshSoon()
}

// outcome shows an act as it goes, and what came of it.
func (p *Page) outcome(w http.ResponseWriter, r *http.Request) {
	one := p.sessions.of(r, true)
	if one == nil {
		p.fail(w, r, http.StatusUnauthorized, errors.New("you are not signed in, or the session has ended: the history has what was done"))
		return
	}
	p.acts.mu.Lock()
	at := slices.IndexFunc(p.acts.all, func(a *act) bool {
		return strconv.FormatInt(a.ID, 10) == r.PathValue("id") && a.Migration == r.PathValue("migration") && one.bearer.Role == a.role
	})
	var found act
	if at >= 0 {
		found = *p.acts.all[at]
	}
	p.acts.mu.Unlock()
	if at < 0 {
		p.fail(w, r, http.StatusNotFound, errors.New("this process has no such act of yours: the history has what was done"))
		return
	}
	found.doing = found.copied()
	b := p.present.Load()
	p.show(w, r, http.StatusOK, view{Title: found.Name + " " + found.Migration, Board: b, Picture: b.Named(found.Migration), Act: &found}, nil)
}
