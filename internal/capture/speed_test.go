package capture_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/store"
)

// speedEnv is how many transactions are measured: see the Makefile.
const speedEnv = "MIGRATOR_CAPTURE_TRANSACTIONS"

// timedTarget notes how long after its row was written each write was applied.
type timedTarget struct {
	store.TargetRecords
	mu    sync.Mutex
	taken []time.Duration
}

func (s *timedTarget) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	results, err := s.TargetRecords.Apply(ctx, writes)
	now := time.Now().UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range writes {
		if at, err := strconv.ParseInt(w.Record[1].Text, 10, 64); err == nil {
			s.taken = append(s.taken, time.Duration(now-at)*time.Microsecond)
		}
	}
	return results, err
}

// How fast small transactions come, beside a reader that decodes nothing and writes nothing; and how late, at half
// that rate.
func TestTheSpeed(t *testing.T) {
	transactions := number(speedEnv, 0)
	if transactions == 0 {
		t.Skip(speedEnv + " is not set: make capture")
	}
	p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text, filler char(84))"})
	const keys = 100_000
	p.Exec(t, "INSERT INTO items SELECT i, '', '' FROM generate_series(1, $1::bigint) i", keys)
	timed := &timedTarget{TargetRecords: p.Target}
	r := begin(t, p, func(c *capture.Capture) { c.Target, c.NotAfter = timed, 10*time.Second })
	p.Exec(t, "UPDATE items SET name = ''") // every key is known to the target, as after a backfill
	r.caughtUp()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	p.Exec(t, "SELECT pg_create_logical_replication_slot('bare_' || pg_backend_pid(), 'pgoutput')")
	var bare string
	if err := p.SQL.QueryRow(t.Context(), "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'bare%'").Scan(&bare); err != nil {
		t.Fatal(err)
	}
	p.Exec(t, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
		UPDATE items SET name = ((extract(epoch FROM clock_timestamp()) * 1000000)::int8)::text WHERE id = 1 + (i * 7919::int8) %% %d; COMMIT; END LOOP; END $$`, transactions, keys))
	at := r.position()
	if err := p.Legacy.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	readBare(t, r, bare, at, nil)
	unread := time.Since(began)
	began = time.Now()
	pipePeer(t, r, bare, at)
	piped := time.Since(began)
	began, used := time.Now(), cpuTime(t)
	r.start()
	r.until("the end of the log", func(p capture.Progress) bool { return p.Resume >= at })
	taken := time.Since(began)
	used = cpuTime(t) - used
	began = time.Now()
	readBare(t, r, bare, at, nil) // once more: another program may have used the machine
	unread = (unread + time.Since(began)) / 2
	rate := float64(transactions) / taken.Seconds()
	share := unread.Seconds() / taken.Seconds()
	r.same()

	// The servers of tests commit asynchronously: what is not on disk yet, up to 600 ms, is not in the stream.
	timed.mu.Lock()
	timed.taken = nil
	timed.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	each := max(1, int(rate/2*0.020))
	for began := time.Now(); time.Since(began) < 10*time.Second; <-tick.C {
		p.Exec(t, fmt.Sprintf(`DO $$ DECLARE at bigint; BEGIN PERFORM set_config('synchronous_commit', 'on', false); FOR i IN 1..%d LOOP at := 1 + floor(random() * %d);
			UPDATE items SET name = ((extract(epoch FROM clock_timestamp()) * 1000000)::int8)::text WHERE id = at; COMMIT; END LOOP; END $$`, each, keys))
	}
	r.same()
	timed.mu.Lock()
	defer timed.mu.Unlock()
	slices.Sort(timed.taken)
	p99 := timed.taken[len(timed.taken)*99/100]
	t.Logf("%d transactions: bare %s, piped without versions %s (%.0f %% of bare), captured %s (%.0f/s), %.0f %% of bare, with %.1f us of this process's CPU each; at about half that rate p50 %s, p99 %s of %d; this test's process took %d MiB at most",
		transactions, unread.Round(time.Millisecond), piped.Round(time.Millisecond), 100*unread.Seconds()/piped.Seconds(), taken.Round(time.Millisecond), rate, 100*share, used.Seconds()*1e6/float64(transactions),
		timed.taken[len(timed.taken)/2].Round(time.Millisecond), p99.Round(time.Millisecond), len(timed.taken), peakMemory(t, os.Getpid())>>20)
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pipePeer is what pg_recvlogical | redis-cli --pipe would do with a filter between them: each row becomes an HSET
// without a version, sent as it comes, of which no answer is looked at. What it writes, later changes must not have
// overtaken; a restart repeats it.
func pipePeer(t *testing.T, r *running, slot string, until pglogrepl.LSN) {
	t.Helper()
	options, err := goredis.ParseURL(r.TargetURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial(options.Network, options.Addr)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriterSize(conn, 256<<10)
	text := func(s []byte) { _, _ = fmt.Fprintf(out, "$%d\r\n%s\r\n", len(s), s) }
	command := func(words ...[]byte) {
		_, _ = fmt.Fprintf(out, "*%d\r\n", len(words))
		for _, w := range words {
			text(w)
		}
	}
	if options.Password != "" {
		command([]byte("AUTH"), []byte(cmp.Or(options.Username, "default")), []byte(options.Password))
	}
	read := make(chan error, 1)
	go func() {
		// The last reply is that of ECHO.
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if err == nil && line[0] == '-' {
				err = errors.New(line)
			}
			if err != nil || line == "the end\r\n" {
				read <- err
				return
			}
		}
	}()
	readBare(t, r, slot, until, func(message []byte) {
		if message[0] != 'U' || message[5] != 'N' {
			return
		}
		in := message[8:]
		var cells [3][]byte
		for i := range cells {
			if in[0] != 't' {
				in = in[1:]
				continue
			}
			n := binary.BigEndian.Uint32(in[1:])
			cells[i], in = in[5:5+n], in[5+n:]
		}
		command([]byte("HSET"), append([]byte("peer:"), cells[0]...), []byte("id"), cells[0], []byte("name"), cells[1], []byte("filler"), cells[2])
	})
	command([]byte("ECHO"), []byte("the end"))
	if err := errors.Join(out.Flush(), <-read); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// readBare reads all up to a position, and decodes nothing. each, if set, gets every other message.
func readBare(t *testing.T, r *running, slot string, until pglogrepl.LSN, each func(message []byte)) {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), r.Legacy.ReplicationConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if err := pglogrepl.StartReplication(t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + r.Legacy.CaptureName() + "'", "messages 'true'"},
	}); err != nil {
		t.Fatal(err)
	}
	for {
		message, err := conn.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		if data.Data[25] != byte(pglogrepl.MessageTypeCommit) {
			if each != nil {
				each(data.Data[25:])
			}
			continue
		}
		log, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := pglogrepl.Parse(log.WALData)
		if commit, ok := parsed.(*pglogrepl.CommitMessage); ok && commit.TransactionEndLSN >= until {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
