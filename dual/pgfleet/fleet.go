package pgfleet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Options overrides the migration file's timing. Renew is at most a third of Lease.
type Options struct {
	Lease time.Duration // how long a lease lasts without renewal, 5 minutes at most; 0: the migration file's, else 15 s
	Renew time.Duration // how often it is renewed; 0: the migration file's, else 5 s
}

// Fleet is an application's connection to the state of one migration. Its role needs no
// more rights than Store.GrantApplication gives: it calls functions of the schema, one for
// each method, and touches no table. It does not check the schema's version: applications
// outlive upgrades of the schema, which keep every function that a release has called.
type Fleet struct {
	pool      *pgxpool.Pool
	migration string
	options   Options
	owned     bool
	lender    lender
	instance  atomic.Pointer[string] // that joined last
}

var (
	_ dual.Fleet             = (*Fleet)(nil)
	_ dual.FaultSwitch       = (*Fleet)(nil)
	_ dual.Notifier          = (*Fleet)(nil)
	_ dual.EmergencyRollback = (*Fleet)(nil)
	_ dual.ReturnJournal     = (*Fleet)(nil)
	_ dual.JournalReader     = (*Fleet)(nil)
	_ dual.StateLossReporter = (*Fleet)(nil)
	_ dual.ColumnsReader     = (*Fleet)(nil)
)

// New returns a Fleet that uses an existing pool. The caller closes the pool.
func New(pool *pgxpool.Pool, migration string, o Options) *Fleet {
	return &Fleet{pool: pool, migration: migration, options: o}
}

// Open returns a Fleet with its own pool. It does not connect: an application can start
// while the state database is down, and joins when it is reachable.
func Open(ctx context.Context, url, migration string, o Options) (*Fleet, error) {
	cfg, err := statedb.ParseURL(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConnIdleTime, cfg.HealthCheckPeriod = idleAfter, idleAfter/2
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", err)
	}
	return &Fleet{pool: pool, migration: migration, options: o, owned: true}, nil
}

// Close closes the pool that Open made.
func (f *Fleet) Close() {
	if f.owned {
		f.pool.Close()
	}
}

// oneTrip calls a function of the schema in a transaction, its COMMIT included, in one round
// trip: an application that freezes between two statements would keep the migration's row
// locked, and so block every rollback, for as long as it is frozen. The function returns no row
// for a migration that there is not.
func (f *Fleet) oneTrip(ctx context.Context, wait time.Duration, call string, args []any, to ...any) error {
	found := false
	err := f.with(ctx, wait, func(q sender) error {
		found = false
		return q.SendBatch(ctx, transaction(call, args, to, &found)).Close()
	})
	if err != nil {
		return explain(err)
	}
	if !found {
		return f.unknown(ctx)
	}
	return nil
}

func transaction(call string, args, to []any, found *bool) *pgx.Batch {
	b := &pgx.Batch{}
	// [journal-serial], [join-locked], [return-journal]: the function takes the turnstile, then the row in
	// share mode: migrator.enter. What it reads after that must be of after that.
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	b.Queue(call, args...).Query(func(rows pgx.Rows) error {
		if *found = rows.Next(); !*found {
			return rows.Err()
		}
		return rows.Scan(to...)
	})
	// BEGIN and COMMIT are in the batch: on any failure the server releases the row without
	// another message from this process.
	b.Queue(`COMMIT`)
	return b
}

// explain is statedb.Explain, for a role that is granted as an application's.
func explain(err error) error { return statedb.ExplainFor(err, hint.GrantApplication) }

// unknown explains that there is no such migration.
func (f *Fleet) unknown(ctx context.Context) error {
	rows, err := f.pool.Query(ctx, `SELECT migrator.fleet_migrations()`)
	if err != nil {
		return explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return explain(err)
	}
	return statedb.UnknownAmong(f.migration, names)
}

// lease is what the functions return of a lease, beside its times.
type lease struct {
	grant              *dual.Grant
	leaseMS, renewMS   int64
	owner, incarnation *string
	beat               *int64
	applied            string // what the migration moves
	instance, moves    *string
	unsettled          bool
}

func (l *lease) columns() []any {
	g := l.grant
	return []any{
		&g.Route.Phase, &g.Route.Percent, &g.Route.Epoch, statedb.ScanShadow(&g.Route.Shadow), &l.leaseMS, &l.renewMS, &g.FenceEra, &g.Reversible, &g.ConfigHash,
		&l.owner, &l.incarnation, &l.beat, &l.applied,
	}
}

// fill completes the grant: its times, and the mark that the target must have.
func (f *Fleet) fill(l *lease) {
	l.grant.TTL, l.grant.Renew = f.timing(l.leaseMS, l.renewMS)
	if l.owner != nil {
		l.grant.Mark.Owner, l.grant.Mark.Incarnation, l.grant.Mark.Beat = *l.owner, *l.incarnation, *l.beat
	}
}

func (f *Fleet) timing(leaseMS, renewMS int64) (lease, renew time.Duration) {
	lease, renew = time.Duration(leaseMS)*time.Millisecond, time.Duration(renewMS)*time.Millisecond
	if f.options.Lease > 0 {
		lease = f.options.Lease
	}
	if f.options.Renew > 0 {
		renew = f.options.Renew
	}
	return statedb.LeaseTimes(lease, renew)
}

// length is how long a lease lasts, in milliseconds, or nil for the migration file's.
func (f *Fleet) length() (*int64, error) {
	switch {
	case f.options.Lease <= 0:
		return nil, nil
	case f.options.Lease > phases.LongestLease:
		return nil, fmt.Errorf("the option Lease is %s: want %s at most: until it ends, an instance that was killed keeps the fleet from settling", f.options.Lease, phases.LongestLease)
	}
	lease, _ := statedb.LeaseTimes(f.options.Lease, 0)
	ms := lease.Milliseconds()
	return &ms, nil
}

// Join takes a lease that has acknowledged the present epoch: an instance that joins has
// no operation in flight. One that rejoins (Identity.Previous names its own former
// lease) may have. Its new lease starts at the epoch that the old one had acknowledged,
// and the old one ends cleanly, since the process keeps its queue. The same applies to
// leases of the same origin whose grant never reached the process. If such a join
// arrives only after a later one, the lease that it takes replaces the one that it ends,
// until the process rejoins.
//
// Without Previous, or with one that the database no longer records, another lease under
// the same instance's name belongs to a process that has ended, perhaps with queued
// writes: the migration is marked dirty, unless that process still calls Leave. If that
// lease is still live, it can't be renewed any more and counts until it would have
// expired, in case two processes share a name by mistake.
func (f *Fleet) Join(ctx context.Context, identity dual.Identity) (dual.Grant, error) {
	return f.JoinAs(ctx, rand.Text(), identity)
}

// ErrLeaseTaken refuses a join with the ID of a lease of another instance or role.
var ErrLeaseTaken = errors.New("the lease's ID is another lease's")

// JoinAs is Join with an ID for the lease: one that no lease had, made at random. If a lease of the instance has it, this
// is a join that arrives again: it renews the lease, which acknowledges nothing, and returns it. dual.ErrLeaseLost if that
// lease is over: then join with another ID, and this one as Previous.
func (f *Fleet) JoinAs(ctx context.Context, id string, identity dual.Identity) (dual.Grant, error) {
	if identity.Instance == "" {
		identity.Instance = generatedName()
	}
	length, err := f.length()
	if err != nil {
		return dual.Grant{}, err
	}
	g := dual.Grant{Lease: id, Instance: identity.Instance}
	moves := statedb.CleanText(identity.Moves)
	l := lease{grant: &g}
	// [rejoin-epoch], [superseded-counts], [unclean-mark], [join-described]: in the function.
	err = f.oneTrip(ctx, foreground, `SELECT * FROM migrator.join_fleet($1, $2, $3, $4, $5, $6, $7)`,
		[]any{f.migration, g.Lease, statedb.CleanText(identity.Instance), statedb.CleanText(identity.About), length, identity.Previous, moves}, l.columns()...)
	if statedb.IsOtherMoves(err) {
		return dual.Grant{}, hint.Errorf(otherMovesHint(moves), "%w: %w", dual.ErrOtherMoves, err)
	}
	if statedb.IsDuplicate(err) {
		return f.joined(ctx, id, statedb.CleanText(identity.Instance))
	}
	if err != nil {
		return dual.Grant{}, err
	}
	f.fill(&l)
	compareMoves(&g, l.applied, &moves)
	f.instance.Store(&g.Instance)
	return g, nil
}

// joined returns the lease that an earlier delivery of a join took. The transaction of this one was undone, with what it
// had ended.
func (f *Fleet) joined(ctx context.Context, id, instance string) (dual.Grant, error) {
	g, err := f.Renew(ctx, id, 0)
	if err == nil && g.Instance != instance {
		err = ErrLeaseTaken
	}
	if err != nil {
		return dual.Grant{}, err
	}
	f.instance.Store(&g.Instance)
	return g, nil
}

func otherMovesHint(moves string) hint.Hint {
	if moves == "" {
		return hint.Hint{Text: "set dual.Config.Moves to the Moves of the migration file with the applied columns; kit.Open does"}
	}
	return hint.Hint{Text: "start it with the migration file that is applied (key template, format, tables), and a program that knows its columns"}
}

// compareMoves notes in a grant whether what its instance moves is what is applied. If it is not,
// what it counts is no evidence. A lease of an earlier release does not say what it moves.
func compareMoves(g *dual.Grant, applied string, moves *string) {
	if g.OtherMoves = applied != "" && (moves == nil || *moves != applied); g.OtherMoves {
		g.ConfigHash = ""
	}
}

// applied reads the migration file that is applied, as JSON without URLs, and what it moves and
// moved before.
func (f *Fleet) applied(ctx context.Context) (config, columns, former []byte, err error) {
	err = f.pool.QueryRow(ctx, `SELECT config, columns, former_columns FROM migrator.applied_file($1)`, f.migration).Scan(&config, &columns, &former)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, nil, f.unknown(ctx)
	}
	return config, columns, former, explain(err)
}

// AppliedFile is the migration file that is applied, as JSON without URLs.
func (f *Fleet) AppliedFile(ctx context.Context) (config []byte, err error) {
	config, _, _, err = f.applied(ctx)
	return config, err
}

// Columns implements dual.ColumnsReader.
func (f *Fleet) Columns(ctx context.Context) (applied, former *record.Schema, err error) {
	_, applied, former, err = f.Applied(ctx)
	return applied, former, err
}

// Applied is AppliedFile and Columns, as of one moment.
func (f *Fleet) Applied(ctx context.Context) (config []byte, applied, former *record.Schema, err error) {
	var texts [2][]byte
	if config, texts[0], texts[1], err = f.applied(ctx); err != nil {
		return nil, nil, nil, err
	}
	var found [2]*record.Schema
	for i, text := range texts {
		if len(text) == 0 {
			continue
		}
		s := &record.Schema{}
		if err := json.Unmarshal(text, s); err != nil {
			return nil, nil, nil, fmt.Errorf("the migration's columns: %w", err)
		}
		if len(s.Fields) > 0 {
			found[i] = s
		}
	}
	return config, found[0], found[1], nil
}

// ReportStateLoss implements dual.StateLossReporter: from then on Status.StateLoss
// records the loss, no advance is possible, and each move takes an epoch above this one.
func (f *Fleet) ReportStateLoss(ctx context.Context, pinned phases.Route) error {
	name := "unknown"
	if i := f.instance.Load(); i != nil {
		name = *i
	}
	// [loss-held]: the route counts as live from here on, and every move takes a higher epoch.
	return statedb.RecordStateLoss(ctx, f.pool, f.migration, name, pinned)
}

func generatedName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// Renew extends a live lease. It locks the migration's row in share mode, so that no
// transition counts the lease as lapsed while the renewal is in flight.
func (f *Fleet) Renew(ctx context.Context, id string, acknowledged int64) (dual.Grant, error) {
	length, err := f.length()
	if err != nil {
		return dual.Grant{}, err
	}
	g := dual.Grant{Lease: id}
	l := lease{grant: &g}
	// [lease-final]: in the function: a lease that has ended, or expired, is not renewed.
	err = f.oneTrip(ctx, background, `SELECT * FROM migrator.renew_lease($1, $2, $3, $4)`, []any{f.migration, id, acknowledged, length},
		append(l.columns(), &l.instance, &l.moves, &l.unsettled)...)
	switch {
	case err != nil:
		return dual.Grant{}, err
	case l.instance == nil:
		return dual.Grant{}, dual.ErrLeaseLost
	case l.unsettled:
		failpoint.Here("state.renew.acknowledged")
		// After the commit, so that of two instances which acknowledge at once one sees both.
		f.markSettled(ctx)
	}
	g.Instance = *l.instance
	f.fill(&l)
	compareMoves(&g, l.applied, l.moves)
	return g, nil
}

// Leave ends the lease cleanly, also one that has expired or was superseded: the
// instance's report that it has drained is valid late too, and removes the mark of
// possibly lost writes. Leaving twice, or after an eviction, is not an error.
func (f *Fleet) Leave(ctx context.Context, lease string) error {
	changed := false
	// [leave-drained]: in the function.
	err := f.with(ctx, foreground, func(q sender) error {
		return q.QueryRow(ctx, `SELECT migrator.leave_fleet($1, $2)`, f.migration, lease).Scan(&changed)
	})
	if err != nil {
		return explain(err)
	}
	if changed {
		failpoint.Here("state.leave.committed")
		f.markSettled(ctx)
	}
	return nil
}

func (f *Fleet) markSettled(ctx context.Context) {
	_ = f.with(ctx, foreground, func(q sender) error {
		statedb.MarkSettled(ctx, q, f.migration)
		return nil
	})
}

// route reads the present route, and those that instances may be on.
func (f *Fleet) route(ctx context.Context, q statedb.Querier) (r phases.Route, live []phases.Route, err error) {
	var routes liveRoutes
	err = q.QueryRow(ctx, `SELECT * FROM migrator.route($1)`, f.migration).Scan(&r.Phase, &r.Percent, &r.Epoch, &routes.phases, &routes.percents)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, nil, f.unknown(ctx)
	}
	if err != nil {
		return r, nil, explain(err)
	}
	live, err = routes.list()
	return r, live, err
}

// Routes reads the present route, and those that instances may be on. Of these the state has no epoch.
func (f *Fleet) Routes(ctx context.Context) (present phases.Route, live []phases.Route, err error) {
	return f.route(ctx, f.pool)
}

// liveRoutes are routes as the functions return them.
type liveRoutes struct {
	phases   []string
	percents []int32
}

func (l liveRoutes) list() ([]phases.Route, error) {
	if len(l.phases) != len(l.percents) {
		return nil, fmt.Errorf("the state database returned %d phases and %d shares of live routes", len(l.phases), len(l.percents))
	}
	all := make([]phases.Route, len(l.phases))
	for i := range all {
		all[i] = phases.Route{Phase: phases.Phase(l.phases[i]), Percent: phases.Percent(l.percents[i])}
	}
	return all, nil
}
