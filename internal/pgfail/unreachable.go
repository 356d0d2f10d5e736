package pgfail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Address names the server, and not the role: in a mistyped URL the password may be in the
// role's name.
func Address(config *pgx.ConnConfig) string {
	at := config.Host
	if !strings.HasPrefix(at, "/") {
		at = net.JoinHostPort(at, fmt.Sprint(config.Port))
	}
	return at + ", database " + config.Database
}

// Unreachable explains in one line why connecting failed, with the server's own words but for the
// role's name. setting is the one that has the URL, such as legacy.url.
func Unreachable(err error, what, setting string, config *pgx.ConnConfig) error {
	at := Address(config)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("connect to %s (%s): %w", what, at, err)
	}
	if f, ok := Failed(err, config); ok {
		return hint.Foreign(fmt.Errorf("%s (%s) %s%w", what, at, f.What, Words(err, config)), f, f.Remedy(setting))
	}
	remedy := hint.Hint{Text: "check " + setting}
	if h, ok := hint.Of(err); ok { // the connection was made, and found unfit
		remedy = h
	}
	return hint.Errorf(remedy, "connect to %s (%s): %w", what, at, Bare(err))
}

// Bare is an error of connecting without the text of the driver's, which names the role.
func Bare(err error) error {
	var failed *pgconn.ConnectError
	if errors.As(err, &failed) {
		return failed.Unwrap()
	}
	return err
}

// Routines of the server that refuse a connection. Messages are translated, their names are not.
const (
	readsHBA  = "ClientAuthentication"
	findsRole = "InitializeSessionUserId"
	findsDB   = "CheckMyDatabase"
)

// Failed is the row of the table of failures that an error of connecting belongs to.
func Failed(err error, config *pgx.ConnConfig) (hint.Failure, bool) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return hint.Row(hint.PostgreSQL, hint.Reach(err))
	}
	code := pg.Code
	switch {
	case code == BadLogin && pg.Routine == readsHBA && config.TLSConfig == nil:
		code = "tls-demanded"
	case code == BadLogin && pg.Routine == readsHBA:
		code = "no-hba"
	case code == BadLogin && pg.Routine == findsRole:
		code = "no-login"
	case code == TooMany && (pg.Routine == findsRole || pg.Routine == findsDB):
		code = "role-full"
	case code == AdminShutdown || code == CrashShutdown: // nothing was sent yet
		code = StartingUp
	}
	return hint.Row(hint.PostgreSQL, code)
}

// words are what follows a failure's predicate: the server's text and the SQLSTATE, or nothing
// where the predicate says all.
type words struct {
	err  error
	text string
}

func (w words) Error() string { return w.text }

func (w words) Unwrap() error { return w.err }

// Words are the server's own about an error of connecting. They are left out where they name the
// role in a way that this function does not know.
func Words(err error, config *pgx.ConnConfig) error {
	bare := Bare(err)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		text := ": " + bare.Error()
		if code := hint.Reach(err); code == "refused" || code == "no-host" || code == "timeout" || namesRole(text, config) {
			text = "" // the predicate says it
		}
		return words{bare, text}
	}
	text := pg.Message
	for _, quotes := range []string{`"%s"`, "«%s»", "« %s »", "„%s“", "“%s”", "'%s'"} {
		text = strings.ReplaceAll(text, fmt.Sprintf(quotes, config.User), fmt.Sprintf(quotes, "..."))
	}
	if namesRole(text, config) {
		return words{pg, " (SQLSTATE " + pg.Code + ")"}
	}
	return words{pg, ": " + text + " (SQLSTATE " + pg.Code + ")"}
}

func namesRole(text string, config *pgx.ConnConfig) bool {
	return config.User != "" && strings.Contains(text, config.User) || config.Password != "" && strings.Contains(text, config.Password)
}
