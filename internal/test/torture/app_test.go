//go:build unix

package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Environment variables of an instance, besides the migration's own.
const (
	envFile    = "TORTURE_FILE"
	envState   = "TORTURE_STATE_URL"
	envName    = "TORTURE_INSTANCE"
	envBreak   = "TORTURE_BREAK" // its defect; see breakage
	envTrace   = "TORTURE_TRACE" // the file for the routes of its operations
	envRequest = "TORTURE_REQUEST"
	requestFor = 3 * time.Second // how long one request may take; see world.requestFor
)

// cell is one row.
type cell struct {
	ID    int64
	Value string
	Seq   int64
}

const (
	tableDDL = `CREATE TABLE cells (id bigint PRIMARY KEY, value text NOT NULL, seq bigint NOT NULL)`
	readCell = `SELECT id, value, seq FROM cells WHERE id = $1`
)

func cellKey(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

func cellColumns() []dual.Column[cell] {
	number := func(name string, of func(*cell) *int64) dual.Column[cell] {
		return dual.Column[cell]{
			Name: name,
			Get:  func(c *cell) record.Value { return record.TextValue(strconv.FormatInt(*of(c), 10)) },
			Set: func(c *cell, v record.Value) (err error) {
				*of(c), err = strconv.ParseInt(v.Text, 10, 64)
				return err
			},
		}
	}
	return []dual.Column[cell]{
		number("id", func(c *cell) *int64 { return &c.ID }),
		number("seq", func(c *cell) *int64 { return &c.Seq }),
		{
			Name: "value",
			Get:  func(c *cell) record.Value { return record.TextValue(c.Value) },
			Set:  func(c *cell, v record.Value) error { c.Value = v.Text; return nil },
		},
	}
}

// answer is the body of every response.
type answer struct {
	Value     string    `json:"value"`
	Seq       int64     `json:"seq"`
	Outcome   outcome   `json:"outcome"`
	Exception exception `json:"exception,omitempty"`
	Route     string    `json:"route"`
	Error     string    `json:"error,omitempty"`
}

// app is an application that embeds dual as docs/embedding.md describes.
type app struct {
	db       *pgxpool.Pool
	instance *dual.Instance
	reader   *dual.Reader[int64, cell]
	writer   *dual.Writer[int64, cell]
	version  string
	policy   dual.Policy
	request  time.Duration // how long one may take
}

// serveInstance runs until SIGTERM, or until its standard input closes: then its parent has
// ended.
func serveInstance(ctx context.Context) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	m, err := openstore.Load(os.Getenv(envFile))
	if err != nil {
		return err
	}
	traced, err := newTrace(os.Getenv(envTrace))
	if err != nil {
		return err
	}
	a := &app{version: postgres.VersionExpr(m.Name), policy: dual.Policy(m.Writing.OnTargetFailure)}
	if a.request, err = time.ParseDuration(os.Getenv(envRequest)); err != nil {
		return err
	}
	if a.db, err = pgxpool.New(ctx, m.Legacy.URL); err != nil {
		return err
	}
	defer a.db.Close()
	fleet, err := pgfleet.Open(ctx, os.Getenv(envState), m.Name, pgfleet.Options{})
	if err != nil {
		return err
	}
	defer fleet.Close()
	if m, err = kit.Described(ctx, m, fleet); err != nil {
		return err
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return err
	}
	defer legacy.Close()
	target, err := m.OpenTarget(ctx, legacy.Schema())
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	broken := breakage(os.Getenv(envBreak))
	config := dual.Config{
		Fleet: broken.fleet(fleet), Moves: m.Moves(), OnOperation: traced.began, Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		Identity:     dual.Identity{Instance: os.Getenv(envName), About: fmt.Sprintf("torture, pid %d", os.Getpid())},
		BreakerPause: 500 * time.Millisecond, LeaveWithin: 3 * time.Second, ReportEvery: 500 * time.Millisecond,
		Writing: dual.Writing{
			OnTargetFailure: a.policy, Deadline: time.Duration(m.Writing.Deadline),
			NotAfter: time.Duration(m.Writing.NotAfter), RollbackBudget: time.Duration(m.Writing.RollbackBudget),
			FenceBudget: time.Duration(m.Writing.FenceBudget), Queue: m.Writing.Queue,
		},
	}
	config.Marks, _ = target.(store.Marker)
	broken.config(&config)
	if a.instance, err = dual.Join(ctx, config); err != nil {
		return err
	}
	codec, err := dual.NewCodec(legacy.Schema(), cellKey, cellColumns())
	if err != nil {
		return err
	}
	bound := broken.target(a.instance, dual.Bind(target, codec))
	a.reader, err = dual.NewReader(dual.ReaderConfig[int64, cell]{
		Instance: a.instance, Target: bound, Key: cellKey, Legacy: a.fromLegacy,
		Equal: func(l, t cell) bool { return l == t }, TargetTimeout: 200 * time.Millisecond, ShadowPercent: 1000,
	})
	if err != nil {
		return err
	}
	a.writer, err = dual.NewWriter(dual.WriterConfig[int64, cell]{
		Instance: a.instance, Target: bound, Key: cellKey, Legacy: a.fromLegacy, Locked: kit.Locked(legacy, codec), Uncertain: uncertain,
	})
	if err != nil {
		return err
	}
	return a.serve(ctx)
}

func (a *app) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cells/{id}", a.handle(a.get))
	mux.HandleFunc("PUT /cells/{id}", a.handle(a.put))
	mux.HandleFunc("DELETE /cells/{id}", a.handle(a.delete))
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(a.instance.Stats()) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: a.request}
	served, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.instance.Run(served) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		defer leave()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*a.request)
		defer cancel()
		return server.Shutdown(drain)
	})
	fmt.Printf("serving http://%s\n", listener.Addr())
	return group.Wait()
}

func (a *app) handle(f func(ctx context.Context, id int64, r *http.Request) (cell, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			http.Error(w, "no number", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), a.request)
		defer cancel()
		var check targetReadCheck
		c, err := f(context.WithValue(ctx, targetReadCheckKey{}, &check), id, r)
		route := a.instance.Route()
		out := answer{Value: c.Value, Seq: c.Seq, Outcome: outcomeOf(err), Route: fmt.Sprintf("%s@%d", route, route.Epoch)}
		if err != nil {
			out.Error = err.Error()
		} else {
			out.Exception = check.exception(a.policy)
		}
		_ = json.NewEncoder(w).Encode(out)
	}
}

// outcomeOf maps a write's error to its outcome.
func outcomeOf(err error) outcome {
	var target *dual.TargetError
	var waited *dual.WaitError
	switch {
	case err == nil:
		return done
	case errors.As(err, &target) && target.Legacy:
		return half
	case errors.As(err, &target) && target.Unknown:
		return unknown
	case errors.As(err, &target), errors.As(err, &waited), errors.Is(err, dual.ErrLeft):
		return refused
	default:
		return unknown
	}
}

func (a *app) fromLegacy(ctx context.Context, id int64) (c cell, found bool, err error) {
	err = a.db.QueryRow(ctx, readCell, id).Scan(&c.ID, &c.Value, &c.Seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	return c, err == nil, err
}

func (a *app) get(ctx context.Context, id int64, _ *http.Request) (cell, error) {
	c, _, err := a.reader.Get(ctx, id)
	return c, err
}

func (a *app) put(ctx context.Context, id int64, r *http.Request) (cell, error) {
	seq, err := strconv.ParseInt(r.FormValue("seq"), 10, 64)
	if err != nil {
		return cell{}, err
	}
	c := cell{ID: id, Value: r.FormValue("value"), Seq: seq}
	return c, a.writer.Put(ctx, id, c, func(ctx context.Context) (record.Version, error) {
		return a.versioned(ctx, `INSERT INTO cells (id, value, seq) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET value = $2, seq = $3 RETURNING `+a.version, c.ID, c.Value, c.Seq)
	})
}

func (a *app) delete(ctx context.Context, id int64, _ *http.Request) (cell, error) {
	return cell{}, a.writer.Delete(ctx, id, func(ctx context.Context) (record.Version, error) {
		v, err := a.versioned(ctx, `DELETE FROM cells WHERE id = $1 RETURNING `+a.version, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return record.Version{}, nil
		}
		return v, err
	})
}

func (a *app) versioned(ctx context.Context, sql string, args ...any) (record.Version, error) {
	var text string
	if err := a.db.QueryRow(ctx, sql, args...).Scan(&text); err != nil {
		return record.Version{}, err
	}
	return record.ParseVersion(text)
}

// uncertain reports whether the statement may have been committed nevertheless: the server did
// not answer that it refused, or only that it is shutting down.
func uncertain(err error) bool {
	var pgErr interface{ SQLState() string }
	if !errors.As(err, &pgErr) {
		return true
	}
	return strings.HasPrefix(pgErr.SQLState(), "57") || strings.HasPrefix(pgErr.SQLState(), "08")
}
