package pgfleet

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestABorrowedSessionThatHasEnded: the call is made again, on a session of the pool. One that the server has answered
// is not.
func TestABorrowedSessionThatHasEnded(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), testenv.PostgresURL(t)
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for _, c := range []struct {
		ended bool
		sql   string
		calls int
		fails bool
	}{
		{ended: false, sql: "SELECT 1", calls: 1},
		{ended: true, sql: "SELECT 1", calls: 2},
		{ended: false, sql: "SELECT 1/0", calls: 1, fails: true},
	} {
		listening, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		if c.ended {
			_ = listening.Close(ctx)
		}
		f := New(pool, "items", Options{})
		lent := &loan{interrupt: func() {}, conn: make(chan *pgx.Conn, 1), returned: make(chan struct{})}
		lent.conn <- listening
		f.lender.offer(lent)
		calls := 0
		err = f.with(ctx, foreground, func(q sender) error {
			calls++
			_, err := q.Exec(ctx, c.sql)
			return err
		})
		if calls != c.calls || (err != nil) != c.fails {
			t.Errorf("%+v: %d calls, %v", c, calls, err)
		}
		<-lent.returned
		_ = listening.Close(ctx)
	}
}
