package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	pipelineCommands = 500
	pipelineBytes    = 1 << 20
	resends          = 4
	firstPause       = 5 * time.Millisecond // doubled before each resend
	longestPause     = 50 * time.Millisecond
	// While a slot moves, a cluster refuses commands with two keys of which one does not
	// exist: every write except those of records that have a sidecar. Commands wait
	// this long for the end of a move, if the context allows it.
	slotMoveTimeout = time.Second
)

// command is one command of a batch, on one record's keys.
type command struct {
	key    string   // the record's; it leads to the master
	script *script  // nil: args are the whole command
	keys   []string // of the script
	args   []any
	size   int  // rough number of bytes
	once   bool // never sent again if it may have run: a condition would refuse its own effect

	value any
	err   error

	needsEval bool   // send the script's text: the server does not know the script
	ask       string // address of the master that the slot is moving to
}

// send runs commands in pipelines: sequentially for each master, concurrently for
// several masters. Each command holds its own outcome. A command that a server
// refused without running it is sent again for a limited time. So is a command whose
// outcome is unknown because the connection broke, unless it is marked once.
func (t *Target) send(ctx context.Context, commands []*command) {
	todo := commands
	pause, began := firstPause, time.Now()
	for attempt := 0; ; {
		t.round(ctx, todo)
		var again []*command
		for _, c := range todo {
			if c.err == nil || ctx.Err() != nil {
				continue
			}
			unknownScript := isUnknownScript(c.err) && !c.needsEval
			if unknownScript || attempt < resends && c.retriable() || slotMoving(c.err) && time.Since(began) < slotMoveTimeout {
				again = append(again, c)
			}
		}
		if len(again) == 0 {
			return
		}
		if !allUnknownScript(again) { // loading a script is no attempt: it succeeds once the text is sent
			attempt++
			if t.cluster != nil {
				t.cluster.ReloadState(ctx)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, longestPause)
		}
		for _, c := range again {
			if isUnknownScript(c.err) {
				c.needsEval = true // to the same server
			} else {
				c.ask, _ = goredis.IsAskError(c.err)
			}
			c.value, c.err = nil, nil
		}
		todo = again
	}
}

func isUnknownScript(err error) bool { return goredis.HasErrorPrefix(err, "NOSCRIPT") }

// slotMoving reports whether the command did not run because its slot is moving.
func slotMoving(err error) bool {
	return goredis.HasErrorPrefix(err, "TRYAGAIN") || goredis.HasErrorPrefix(err, "ASK ") || goredis.HasErrorPrefix(err, "MOVED ")
}

func allUnknownScript(commands []*command) bool {
	for _, c := range commands {
		if !isUnknownScript(c.err) {
			return false
		}
	}
	return true
}

// retriable reports whether the command did not run, or may safely run twice.
func (c *command) retriable() bool {
	var reply goredis.Error
	if errors.As(c.err, &reply) {
		for _, prefix := range []string{"NOSCRIPT", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "BUSY "} {
			if strings.HasPrefix(c.err.Error(), prefix) {
				return true
			}
		}
		return false
	}
	var op *net.OpError
	if errors.As(c.err, &op) && op.Op == "dial" {
		return true
	}
	// [retain-once]: after a broken connection it is unknown whether the command ran.
	return !c.once
}

// round sends each command once.
func (t *Target) round(ctx context.Context, commands []*command) {
	if err := ctx.Err(); err != nil {
		for _, c := range commands {
			c.err = err
		}
		return
	}
	if t.cluster == nil {
		pipelines(ctx, t.client, commands)
		return
	}
	groups := map[*goredis.Client][]*command{}
	byAddress := t.askedMasters(ctx, commands)
	for _, c := range commands {
		client := byAddress[c.ask]
		if client == nil {
			if client, c.err = t.cluster.MasterForKey(ctx, c.key); c.err != nil {
				continue
			}
			c.ask = ""
		}
		groups[client] = append(groups[client], c)
	}
	var wg sync.WaitGroup
	for client, group := range groups {
		wg.Go(func() { pipelines(ctx, client, group) })
	}
	wg.Wait()
}

// askedMasters returns the masters by address, if a slot of a command is moving.
func (t *Target) askedMasters(ctx context.Context, commands []*command) map[string]*goredis.Client {
	found := map[string]*goredis.Client{}
	for _, c := range commands {
		if c.ask == "" {
			continue
		}
		var mu sync.Mutex
		_ = t.cluster.ForEachMaster(ctx, func(_ context.Context, client *goredis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			found[client.Options().Addr] = client
			return nil
		})
		break
	}
	return found
}

// pipelines sends the commands to one server, up to pipelineCommands at a time. It
// stops after the first pipeline that got no answer at all.
func pipelines(ctx context.Context, client goredis.UniversalClient, commands []*command) {
	scriptLoaded := map[*script]bool{}
	for from := 0; from < len(commands); {
		to, bytes := from, 0
		for to < len(commands) && to-from < pipelineCommands && (to == from || bytes+commands[to].size <= pipelineBytes) {
			bytes += commands[to].size
			to++
		}
		if err := pipeline(ctx, client, commands[from:to], scriptLoaded); err != nil {
			for _, c := range commands[to:] {
				c.err = err
			}
			return
		}
		from = to
	}
}

// pipeline sets every command's outcome. It returns an error if there was no answer.
func pipeline(ctx context.Context, client goredis.UniversalClient, commands []*command, scriptLoaded map[*script]bool) error {
	sent := make([]*goredis.Cmd, len(commands))
	pipe := client.Pipeline()
	for i, c := range commands {
		if c.ask != "" {
			pipe.Do(ctx, "asking")
		}
		switch {
		case c.script == nil:
			sent[i] = pipe.Do(ctx, c.args...)
		case c.needsEval && !scriptLoaded[c.script]:
			sent[i] = pipe.Eval(ctx, c.script.source, c.keys, c.args...)
			scriptLoaded[c.script] = true
		default:
			sent[i] = pipe.EvalSha(ctx, c.script.sha, c.keys, c.args...)
		}
	}
	_, failed := pipe.Exec(ctx)
	whole := failed // of a connection that could not be set up, which the driver notes with no command
	var reply goredis.Error
	if failed != nil && errors.As(failed, &reply) {
		failed = nil
	}
	answered := false
	for i, c := range commands {
		c.value, c.err = sent[i].Result()
		switch {
		case errors.Is(c.err, goredis.Nil):
			c.value, c.err, answered = nil, nil, true
		case c.err != nil:
			answered = answered || errors.As(c.err, &reply)
			if !errors.As(c.err, &reply) {
				c.err = contextError(ctx, c.err)
			}
		case c.value == nil && whole != nil: // null would be an error of the command
			c.err = contextError(ctx, whole)
		default:
			answered = true
		}
	}
	if failed != nil && !answered {
		return contextError(ctx, failed)
	}
	return nil
}
