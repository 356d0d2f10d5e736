package redis

import (
	"context"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rawCommands is from how many writes on a pipeline is encoded and read here: an object of the driver for each command
// costs more than the command.
const rawCommands = 32

// raw sends writes on a connection of its own. It returns the commands that have no outcome: refused ones, which
// the driver sends again and explains, and those of a connection that broke.
func (t *Target) raw(ctx context.Context, client *goredis.Client, commands []*command) (rest []*command) {
	if len(commands) < rawCommands {
		return commands
	}
	fit := make([]*command, 0, len(commands))
	for _, c := range commands {
		// [retain-once]: what may not run twice is sent by one way alone.
		if (c.script == applyHash || c.script == applyJSON) && !c.once && !c.needsEval && c.ask == "" {
			fit = append(fit, c)
		} else {
			rest = append(rest, c)
		}
	}
	at := 0 // the first without an answer
	_ = t.bulk.with(ctx, client, func(c *bulkConn) error {
		for at < len(fit) {
			to, bytes := at, 0
			for to < len(fit) && to-at < pipelineCommands && (to == at || bytes+fit[to].size <= pipelineBytes) {
				c.out = appendScript(c.out, fit[to])
				bytes += fit[to].size
				to++
			}
			if err := c.flush(); err != nil {
				return err
			}
			for ; at < to; at++ {
				refused, err := c.outcome(&fit[at].result)
				if err != nil {
					return err
				}
				if refused {
					rest = append(rest, fit[at])
				}
			}
		}
		return nil
	})
	return append(rest, fit[at:]...)
}

// appendScript appends the call of a script that the server should have.
func appendScript(dst []byte, c *command) []byte {
	dst = append(strconv.AppendInt(append(dst, '*'), int64(3+len(c.keys)+len(c.args)), 10), "\r\n"...)
	dst = appendBulk(appendBulk(dst, "EVALSHA"), c.script.sha)
	dst = appendBulk(dst, strconv.Itoa(len(c.keys)))
	for _, key := range c.keys {
		dst = appendBulk(dst, key)
	}
	for _, arg := range c.args {
		switch arg := arg.(type) {
		case string:
			dst = appendBulk(dst, arg)
		case []byte:
			dst = appendBulk(dst, arg)
		}
	}
	return dst
}

// outcome reads the reply to one write.
func (c *bulkConn) outcome(r *store.Result) (refused bool, err error) {
	kind, n, err := c.header()
	switch {
	case err != nil:
		return false, err
	case kind == '-':
		return true, nil
	case kind != '*' || n != 2:
		return false, errUnexpectedReply
	}
	what, err := c.bulkText()
	if err != nil {
		return false, err
	}
	var outcome store.Outcome
	switch string(what) {
	case string(store.Applied):
		outcome = store.Applied
	case string(store.Older):
		outcome = store.Older
	default:
		outcome = store.Outcome(what)
	}
	digits, err := c.bulkText()
	if err != nil {
		return false, err
	}
	version := string(digits)
	if outcome == "" || !record.IsVersion(version) {
		return false, errUnexpectedReply
	}
	r.Outcome, r.Version = outcome, versionOf(version)
	return false, nil
}

// bulkText reads a string, valid until the next read.
func (c *bulkConn) bulkText() ([]byte, error) {
	kind, n, err := c.header()
	if err != nil {
		return nil, err
	}
	if kind != '$' || n < 0 {
		return nil, errUnexpectedReply
	}
	return c.text(n)
}
