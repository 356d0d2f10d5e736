package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
)

// withholding removes from a server's errors the arguments of the command, which may hold values
// of records: a server that lacks a command quotes them. It also finds each error's row in the
// table of failures.
type withholding struct {
	addr      string        // of the server; "": the master that the sentinels name
	grant     func() string // the command that gives the user its privileges; nil: not known
	clustered bool
	encrypted bool
}

var _ goredis.Hook = (*withholding)(nil)

func (w *withholding) client(o *goredis.Options) *goredis.Client {
	client := goredis.NewClient(o)
	of := *w
	of.addr = o.Addr
	client.AddHook(&of)
	return client
}

// DialHook implements goredis.Hook.
func (w *withholding) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, w.undialed(ctx, network, addr, err)
		}
		return conn, nil
	}
}

// ProcessHook implements goredis.Hook.
func (w *withholding) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		done := waitingFor(ctx, w.addr)
		err := w.withhold(next(ctx, cmd))
		done()
		cmd.SetErr(w.withhold(cmd.Err()))
		return err
	}
}

// ProcessPipelineHook implements goredis.Hook.
func (w *withholding) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		done := waitingFor(ctx, w.addr)
		err := w.withhold(next(ctx, cmds))
		done()
		for _, cmd := range cmds {
			cmd.SetErr(w.withhold(cmd.Err()))
		}
		return err
	}
}

// unanswered is how long a server may take to answer before the wait is reported: less than the time-outs for
// connecting and reading, so that each attempt is.
const unanswered = 2 * time.Second

// waitingFor reports a server that does not answer, until done is called.
func waitingFor(ctx context.Context, addr string) (done func()) {
	name, ping := "Redis at "+addr, "redis-cli ping"
	if host, port, err := net.SplitHostPort(addr); err == nil {
		ping = "redis-cli -h " + host + " -p " + port + " ping"
	}
	if addr == "" {
		name = "the Redis master that the sentinels name"
	}
	return hint.WaitingSince(ctx, unanswered, func(took time.Duration) string {
		return fmt.Sprintf("%s, which has not answered for %s", name, took.Round(100*time.Millisecond))
	}, hint.Hint{Text: ping})
}

// withhold is err without values, and with its row. A nil reply is no failure.
func (w *withholding) withhold(err error) error {
	if err == nil || err == goredis.Nil { //nolint:errorlint // what wraps it is a failure
		return err
	}
	return w.failureOf(withhold(err))
}

// reply is a server's error without the command's arguments.
type reply string

func (r reply) Error() string { return string(r) }

// RedisError implements goredis.Error.
func (reply) RedisError() {}

func withhold(err error) error {
	var of goredis.Error
	if err == nil || !errors.As(err, &of) {
		return err
	}
	if text := withholdText(of.Error()); text != of.Error() {
		return reply(text)
	}
	return err
}

func withholdText(text string) string {
	text, _, _ = strings.Cut(text, ", with args beginning with")
	return text
}
