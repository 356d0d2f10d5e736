// Command app is an application with one migration, to be killed in the middle of an
// operation. It executes the lines of its standard input and answers each with a line. At the
// end of the input it leaves the fleet and exits:
//
//	put ID POINTS   ok
//	remove ID       ok
//	get ID          its points, or none
//
// Anything else, and every failure, is answered by error and the reason.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/examples/embedding"
	"github.com/stranglerfig/migrator/internal/openstore"
)

// silent keeps go-redis from logging between the application's lines.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func main() {
	redis.SetLogger(silent{})
	if err := serve(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	m, err := openstore.Load(os.Getenv("MIGRATOR_FILE"))
	if err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, m.Legacy.URL)
	if err != nil {
		return err
	}
	defer db.Close()
	customers, err := embedding.Open(ctx, db, m, kit.Options{
		StateURL: os.Getenv("MIGRATOR_STATE_URL"), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return customers.Serve(ctx, func(ctx context.Context) error {
		fmt.Println("ready")
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Println(answer(ctx, customers, lines.Text()))
		}
		return lines.Err()
	})
}

func answer(ctx context.Context, customers *embedding.Customers, line string) string {
	var id int64
	var points int
	var err error
	if n, _ := fmt.Sscanf(line, "put %d %d", &id, &points); n == 2 {
		err = customers.Replace(ctx, embedding.Customer{ID: id, Email: fmt.Sprintf("%d@example.org", id), Points: points})
	} else if n, _ := fmt.Sscanf(line, "remove %d", &id); n == 1 {
		err = customers.Remove(ctx, id)
	} else if n, _ := fmt.Sscanf(line, "get %d", &id); n == 1 {
		c, found, err := customers.Get(ctx, id)
		switch {
		case err != nil:
			return "error " + err.Error()
		case !found:
			return "none"
		}
		return fmt.Sprint(c.Points)
	} else {
		return "error unknown command " + line + ""
	}
	if err != nil {
		return "error " + err.Error()
	}
	return "ok"
}
