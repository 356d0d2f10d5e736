package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
)

const serverName = "Redis" // in errors

// probeWithin bounds a look at what a port speaks.
const probeWithin = 3 * time.Second

// failureOf is err as a row of the table of failures, if it is one. Its text stays the server's:
// it begins with the reply's code, by which this package and the driver decide.
func (w *withholding) failureOf(err error) error {
	var reply goredis.Error
	if !errors.As(err, &reply) {
		return w.unreachable(err)
	}
	code, _, _ := strings.Cut(reply.Error(), " ")
	lower := strings.ToLower(reply.Error())
	switch {
	case strings.Contains(lower, "max number of clients"):
		code = "max-clients"
	case code != "WRONGPASS" && (strings.Contains(lower, "no permission") || strings.Contains(lower, "can't run this command") || strings.Contains(lower, "acl failure in script")):
		code = "NOPERM"
	}
	f, ok := hint.Row(hint.Redis, code)
	if !ok || code == "MOVED" && w.clustered {
		return err
	}
	remedy := f.Remedy(urlSetting)
	if code == "NOPERM" && w.grant != nil {
		remedy = hint.Hint{Text: w.grant()}
	}
	return hint.Foreign(err, f, remedy)
}

// unreachable is an error of the connection as a row of the table of failures.
func (w *withholding) unreachable(err error) error {
	if _, known := hint.FailureOf(err); err == nil || known || errors.Is(err, context.Canceled) {
		return err
	}
	f, ok := hint.Row(hint.Redis, hint.Reach(err))
	if !ok {
		return err
	}
	return hint.Foreign(err, f, f.Remedy(urlSetting))
}

// undialed explains why no connection to addr was made.
func (w *withholding) undialed(ctx context.Context, network, addr string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	code := hint.Reach(err)
	switch unknown := errors.Is(err, goredis.Nil); {
	case unknown || strings.Contains(err.Error(), "all sentinels specified"):
		if code = "no-sentinel"; unknown {
			code = "no-master"
		}
		f, _ := hint.Row(hint.Redis, code)
		// The cause is cut off where it is the driver's nil reply: that means an absent key to others.
		if unknown {
			return hint.Foreign(fmt.Errorf("%s %s", serverName, f.What), f, f.Remedy(urlSetting))
		}
		return hint.Foreign(fmt.Errorf("%s %s: %w", serverName, f.What, err), f, f.Remedy(urlSetting))
	case w.encrypted && (code == "timeout" || code == "silent") && network == "tcp" && speaksPlain(ctx, addr):
		code = "tls-not-spoken"
	}
	f, ok := hint.Row(hint.Redis, code)
	if !ok {
		return err
	}
	return hint.Foreign(fmt.Errorf("%s %s: %w", serverName, f.What, err), f, f.Remedy(urlSetting))
}

// urlSetting names the URL in remedies.
const urlSetting = "target.url"

// speaksPlain reports whether Redis answers at addr without TLS.
func speaksPlain(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	first := make([]byte, 1)
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, first)
	return err == nil && (first[0] == '+' || first[0] == '-')
}

// speaksTLS reports whether a TLS handshake succeeds at addr, whatever the certificate. Nothing is
// sent over it.
func speaksTLS(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeWithin)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // nothing is sent
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		// A server that demands a certificate of its client speaks TLS too.
		var alert tls.AlertError
		return errors.As(err, &alert)
	}
	return conn.Close() == nil
}

// greeting is the error that a server sends to a client which has said nothing: it has no room, or is
// protected. A client that sends at once may lose it, since the server closes the connection.
func greeting(ctx context.Context, addr string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(greetingWithin))
	text := make([]byte, greetingBytes)
	n, _ := io.ReadFull(conn, text)
	words, found := strings.CutPrefix(string(text[:n]), "-")
	if !found {
		return ""
	}
	return strings.TrimSpace(words)
}

const (
	greetingWithin = time.Second
	greetingBytes  = 1 << 10
)

// whyNot looks more closely at an error of the connection: a port that takes TLS alone says nothing
// to a client that does not speak it.
func (t *Target) whyNot(ctx context.Context, err error) error {
	client, ok := t.client.(*goredis.Client)
	if !ok {
		return err
	}
	o := client.Options()
	code := hint.Reach(err)
	if o.TLSConfig != nil || o.Network != "tcp" || o.Addr == sentinelAddress || code != "silent" && code != "timeout" {
		return err
	}
	if words := greeting(ctx, o.Addr); words != "" {
		answer := new(withholding).failureOf(reply(words))
		if f, ok := hint.FailureOf(answer); ok {
			return hint.Foreign(fmt.Errorf("%s %s: %w", serverName, f.What, answer), f, f.Remedy(urlSetting))
		}
		return answer
	}
	if !speaksTLS(ctx, o.Addr) {
		return err
	}
	f, _ := hint.Row(hint.Redis, "tls-demanded")
	return hint.Foreign(fmt.Errorf("%s %s: %w", serverName, f.What, err), f, f.Remedy(urlSetting))
}

// sentinelAddress is the driver's name for a master under Sentinel.
const sentinelAddress = "FailoverClient"
