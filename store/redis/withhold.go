package redis

import (
	"context"
	"errors"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// withholding removes from a server's errors the arguments of the command, which may hold values
// of records: a server that lacks a command quotes them.
type withholding struct{}

var _ goredis.Hook = withholding{}

func withholdingClient(o *goredis.Options) *goredis.Client {
	client := goredis.NewClient(o)
	client.AddHook(withholding{})
	return client
}

func (withholding) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (withholding) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		err := withhold(next(ctx, cmd))
		cmd.SetErr(withhold(cmd.Err()))
		return err
	}
}

func (withholding) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		err := withhold(next(ctx, cmds))
		for _, cmd := range cmds {
			cmd.SetErr(withhold(cmd.Err()))
		}
		return err
	}
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
