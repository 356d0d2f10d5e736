package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"
)

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// rawCopy drains the table by COPY in binary form.
func rawCopy(url string, rows int) func(context.Context, testing.TB) sample {
	return func(_ context.Context, tb testing.TB) (s sample) {
		withConn(tb, url, func(ctx context.Context, conn *pgx.Conn) error {
			began := time.Now()
			tag, err := conn.PgConn().CopyTo(ctx, discard{}, "COPY products TO STDOUT (FORMAT binary)")
			s = sample{rows: tag.RowsAffected(), seconds: time.Since(began).Seconds()}
			return err
		})
		if s.rows != int64(rows) {
			tb.Fatalf("COPY gave %d rows", s.rows)
		}
		return s
	}
}

// checksums requests one checksum of the whole table from both servers at once, by the
// statement that pgcopydb's compare data uses.
func checksums(rows int, urls ...string) func(context.Context, testing.TB) sample {
	return func(_ context.Context, tb testing.TB) sample {
		began := time.Now()
		var wg sync.WaitGroup
		sums := make([]string, len(urls))
		for i, url := range urls {
			wg.Go(func() {
				withConn(tb, url, func(ctx context.Context, conn *pgx.Conn) error {
					return conn.QueryRow(ctx, "SELECT count(1) || '-' || sum(hashtext(products::text)::bigint) FROM ONLY products").Scan(&sums[i])
				})
			})
		}
		wg.Wait()
		for _, sum := range sums {
			if sum != sums[0] || !strings.HasPrefix(sum, strconv.Itoa(rows)+"-") {
				tb.Fatalf("checksums %q", sums)
			}
		}
		return sample{rows: int64(rows), seconds: time.Since(began).Seconds()}
	}
}

// hmget appends the command for one record.
func hmget(dst []byte, id int) []byte {
	name := "product:" + strconv.Itoa(id)
	dst = fmt.Appendf(dst, "*8\r\n$5\r\nHMGET\r\n$%d\r\n%s\r\n", len(name), name)
	return append(dst, "$2\r\n_v\r\n$4\r\nname\r\n$5\r\nprice\r\n$5\r\nstock\r\n$10\r\nupdated_at\r\n$10\r\nattributes\r\n"...)
}

// rawReads reads all records from Redis by pipelines of 500, two of them in flight, as fast as
// a client can: it parses only the ends of lines.
func rawReads(url string, rows int) func(context.Context, testing.TB) sample {
	return func(_ context.Context, tb testing.TB) sample {
		conn := bareConn(tb, url)
		defer func() { _ = conn.Close() }()
		const batch = 500
		began := time.Now()
		window := make(chan int, 2)
		go func() {
			defer close(window)
			var out []byte
			for from := 1; from <= rows; from += batch {
				out = out[:0]
				to := min(from+batch, rows+1)
				for id := from; id < to; id++ {
					out = hmget(out, id)
				}
				window <- to - from
				if _, err := conn.Write(out); err != nil {
					return
				}
			}
		}()
		in := bufio.NewReaderSize(conn, 256<<10)
		for n := range window {
			for range n {
				if err := skipArray(in); err != nil {
					tb.Fatal(err)
				}
			}
		}
		return sample{rows: int64(rows), seconds: time.Since(began).Seconds()}
	}
}

func bareConn(tb testing.TB, url string) net.Conn {
	tb.Helper()
	o, err := goredis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := net.Dial("tcp", o.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err = fmt.Fprintf(conn, "AUTH %s\r\n", o.Password); err == nil {
		_, err = io.ReadFull(conn, make([]byte, len("+OK\r\n")))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

func skipArray(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if line[0] != '*' {
		return fmt.Errorf("Redis answered %q", line)
	}
	for range int(line[1] - '0') {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		if line[1] == '-' {
			continue
		}
		size, err := strconv.Atoi(string(line[1 : len(line)-2]))
		if err != nil {
			return err
		}
		if _, err := in.Discard(size + 2); err != nil {
			return err
		}
	}
	return nil
}

// shell runs a pipe of other programs, if they are all installed.
func shell(rows int, line string, env []string, programs ...string) func(context.Context, testing.TB) sample {
	return func(ctx context.Context, tb testing.TB) sample {
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				tb.Skipf("%s is not on this machine", p)
			}
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", line)
		cmd.Env = append(os.Environ(), env...)
		var output strings.Builder
		cmd.Stderr = &output
		s, err := run(cmd)
		if err != nil {
			tb.Fatalf("%s: %v\n%s", line, err, output.String())
		}
		s.rows, s.peak = int64(rows), 0 // the shell's
		return s
	}
}
