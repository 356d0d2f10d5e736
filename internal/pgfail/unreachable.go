package pgfail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Unreachable says in one line why no connection came about. It names the server and
// nobody who logs in: of a URL that was mistyped, the password may be in the role's
// name.
func Unreachable(err error, what, try string, config *pgx.ConnConfig) error {
	at := config.Host
	if !strings.HasPrefix(at, "/") {
		at = net.JoinHostPort(at, fmt.Sprint(config.Port))
	}
	at += ", database " + config.Database
	code := SQLState(err)
	var dns *net.DNSError
	switch {
	case code == BadPassword || code == BadLogin:
		return fmt.Errorf("%s (%s) refuses the role or its password (SQLSTATE %s); try: %s", what, at, code, try)
	case code == NoDatabase:
		return fmt.Errorf("%s (%s): there is no such database (SQLSTATE %s); try: %s", what, at, code, try)
	case code == TooMany:
		return fmt.Errorf("%s (%s) has no connection left (SQLSTATE %s); try: raise max_connections, or end idle sessions", what, at, code)
	case errors.As(err, &dns):
		return fmt.Errorf("%s: its host can't be found (%s); try: %s", what, at, try)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s refuses connections (%s): no server listens there; try: start it, or %s", what, at, try)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("connect to %s (%s): %w", what, at, err)
	}
	var failed *pgconn.ConnectError // whose text names the role
	if errors.As(err, &failed) {
		err = failed.Unwrap()
	}
	return fmt.Errorf("connect to %s (%s): %w; try: %s", what, at, err, try)
}
