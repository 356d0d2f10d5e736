package statedb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/pgfail"
)

// tokenSetting is what migrator.bearer reads.
const tokenSetting = "migrator.token"

// noToken is a value of it that is no token: the state's functions and policies refuse whatever is asked with it.
const noToken = "none"

// ErrNoToken refuses a statement for which no caller is known.
var ErrNoToken = errors.New("a statement on a pool for tokens was made without a token")

type tokenKey struct{}

// WithToken makes the statements under ctx on a pool of [ForTokens] those of a caller's token.
func WithToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, tokenKey{}, Presented(token))
}

// Presented is what a session presents of a token: the hex of its hash. The state has a hash of that.
func Presented(token string) string {
	given := sha256.Sum256([]byte(token))
	return hex.EncodeToString(given[:])
}

// ForTokens makes each statement of a pool that of the token in its context, with that token's rights and no other. It
// fails closed: a connection has no valid token from its start, one that is taken without a token is refused, and one
// whose token could not be set is closed.
//
// The setting is the session's: it is sent when the connection's last caller was another one.
func ForTokens(cfg *pgxpool.Config) {
	// Also of connections that are made with a copy of this configuration, beside the pool.
	cfg.ConnConfig.RuntimeParams[tokenSetting] = noToken
	cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		token, ok := ctx.Value(tokenKey{}).(string)
		if !ok {
			return true, ErrNoToken
		}
		data := conn.PgConn().CustomData()
		if data[tokenSetting] == token {
			return true, nil
		}
		delete(data, tokenSetting)
		if _, err := conn.Exec(ctx, `SELECT set_config('`+tokenSetting+`', $1, false)`, token); err != nil {
			return false, err
		}
		data[tokenSetting] = token
		return true, nil
	}
}

// Beginnings of the refusals of migrator.bearer, which have no code of their own.
const (
	badToken = "the token is not valid"
	noServer = "the role % has no grant of the kind server"
)

// IsBadToken reports whether migrator.bearer has refused the token itself: it is unknown, has expired or was revoked.
func IsBadToken(err error) bool {
	what, ok := refusedGrant(err)
	return ok && strings.HasPrefix(what, badToken)
}

// IsNoServer reports whether migrator.bearer has refused the session's role: it acts for no token.
func IsNoServer(err error) bool {
	what, ok := refusedGrant(err)
	before, after, _ := strings.Cut(noServer, "%")
	return ok && strings.HasPrefix(what, before) && strings.Contains(what, after)
}

// refusedGrant is what a function of the schema has refused for want of a right, also after Explain.
func refusedGrant(err error) (what string, ok bool) {
	var refused *NotAllowedError
	if !errors.As(err, &refused) {
		refused = Refusal(err, pgfail.NoPrivilege)
	}
	if refused == nil {
		return "", false
	}
	return refused.What, true
}
