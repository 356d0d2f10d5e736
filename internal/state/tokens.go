package state

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// tokenPrefix lets a scanner of repositories and logs find a token that leaked.
const tokenPrefix = "mgt_"

// Token is what the state has of a caller's token: not the token.
type Token struct {
	ID        int64     `json:"id"`
	Role      string    `json:"role"` // whose rights it has
	About     string    `json:"about,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
	Expires   time.Time `json:"expires"`
	Replaces  int64     `json:"replaces,omitempty"` // the ID of another
	Revoked   time.Time `json:"revoked,omitzero"`
	RevokedBy string    `json:"revoked_by,omitempty"`
}

// NewToken is a token to be made.
type NewToken struct {
	Role     string // "": that of the session, or of the token that it replaces
	About    string
	Lives    time.Duration
	Replaces int64         // the ID of a token; 0: none
	Overlap  time.Duration // for how long that one stays valid
}

// CreateToken makes a token and returns it: the state has no more than a hash of a hash of it. Called again it makes
// another one; of one token there is one replacement.
func (s *Store) CreateToken(ctx context.Context, n NewToken) (token string, made Token, err error) {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // it never fails
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(secret)
	hash := TokenHash(token)
	err = statedb.InTx(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		var replaces *int64
		if n.Replaces != 0 {
			replaces = &n.Replaces
		} else if n.Role == "" {
			if err := tx.QueryRow(ctx, `SELECT session_user`).Scan(&n.Role); err != nil {
				return err
			}
		}
		err := tx.QueryRow(ctx, `SELECT id, role, expires_at FROM migrator.create_token($1, $2, $3, $4, $5, $6)`, n.Role, hash[:], statedb.CleanText(n.About),
			n.Lives.Milliseconds(), replaces, n.Overlap.Milliseconds()).Scan(&made.ID, &made.Role, &made.Expires)
		if err != nil {
			return err
		}
		made, err = tokenOf(ctx, tx, made.ID)
		return err
	})
	return token, made, explainToken(err)
}

// RevokeToken ends a token at once, and returns what the state has of it. To repeat it changes nothing.
func (s *Store) RevokeToken(ctx context.Context, id int64) (t Token, err error) {
	err = statedb.InTx(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT migrator.revoke_token($1)`, id); err != nil {
			return err
		}
		t, err = tokenOf(ctx, tx, id)
		return err
	})
	return t, explainToken(err)
}

// Tokens lists the tokens that the session's role may see: all, if it is the schema's owner, else its own.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	rows, err := s.pool.Query(ctx, tokensSQL)
	if err != nil {
		return nil, explainToken(err)
	}
	all, err := pgx.CollectRows(rows, scanToken)
	return all, explainToken(err)
}

const tokensSQL = `SELECT id, role, about, created_at, created_by, expires_at, coalesce(replaces, 0), revoked_at, coalesce(revoked_by, '') FROM migrator.list_tokens()`

func tokenOf(ctx context.Context, q statedb.Querier, id int64) (Token, error) {
	rows, err := q.Query(ctx, tokensSQL+` WHERE id = $1`, id)
	if err != nil {
		return Token{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanToken)
}

func scanToken(row pgx.CollectableRow) (t Token, err error) {
	var revoked *time.Time
	err = row.Scan(&t.ID, &t.Role, &t.About, &t.Created, &t.CreatedBy, &t.Expires, &t.Replaces, &revoked, &t.RevokedBy)
	t.Revoked = statedb.OrZero(revoked)
	return t, err
}

// BadTokenError refuses what can't be done with the tokens and roles that there are.
type BadTokenError struct{ error }

// Unwrap returns the function's refusal, which has the remedy.
func (e *BadTokenError) Unwrap() error { return e.error }

// explainToken makes input errors of the functions' refusals that name a role or a token.
func explainToken(err error) error {
	if refused := statedb.Refusal(err, pgfail.UndefinedObject, pgfail.NoData, pgfail.NotInState, pgfail.InvalidParameter); refused != nil {
		return &BadTokenError{refused}
	}
	return statedb.Explain(err)
}

// TokenHash is what the state stores of a token: the hash of what ActFor gives to the database. Who reads either can't
// present the token.
func TokenHash(token string) [sha256.Size]byte {
	given := sha256.Sum256([]byte(token))
	return sha256.Sum256(given[:])
}

// ActFor makes the transaction one of the token's role: the state's functions and policies apply that role's rights, and
// record the session's role beside it. They refuse everything if the token is not valid. The session's role needs a
// grant of the kind Server.
func ActFor(ctx context.Context, tx pgx.Tx, token string) error {
	_, err := tx.Exec(ctx, `SELECT set_config('migrator.token', $1, true)`, statedb.Presented(token))
	return err
}

// ForTokens is the store for a server's callers, on a pool of its own: each statement is made with the token that
// [statedb.WithToken] has given its context, and a statement without one is refused. It takes the settings of s. The
// session's role needs a grant of the kind Server.
func (s *Store) ForTokens(ctx context.Context) (*Store, error) {
	cfg := s.pool.Config()
	statedb.ForTokens(cfg)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", err)
	}
	return &Store{pool: pool, standby: s.standby, readOnly: s.readOnly, schema: s.schema}, nil
}

// May reports whether the role of the session, or of the token of the context, has a grant of the kind for the migration.
func (s *Store) May(ctx context.Context, kind Kind, migration string) (may bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT migrator.may($1, $2)`, string(kind), migration).Scan(&may)
	return may, statedb.Explain(err)
}

// Bearer is a valid token, for a server that looks its callers up.
type Bearer struct {
	ID         int64
	Role       string
	Lives      time.Duration   // from before it was read
	Migrations map[string]bool // that it may see
}

// Published is the route of a migration that a server publishes.
type Published struct {
	Migration    string
	Route        phases.Route
	Lease, Renew time.Duration
}

// Publication reads what a server publishes, and to whom, as of one moment. Bearers are by TokenHash.
func (s *Store) Publication(ctx context.Context) (routes []Published, bearers map[[sha256.Size]byte]Bearer, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT * FROM migrator.flagged()`)
		if err != nil {
			return err
		}
		routes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Published, err error) {
			var lease, renew int64
			err = row.Scan(&p.Migration, &p.Route.Phase, &p.Route.Percent, &p.Route.Epoch, statedb.ScanShadow(&p.Route.Shadow), &lease, &renew)
			p.Lease, p.Renew = statedb.LeaseTimes(time.Duration(lease)*time.Millisecond, time.Duration(renew)*time.Millisecond)
			return p, err
		})
		if err != nil {
			return err
		}
		bearers = map[[sha256.Size]byte]Bearer{}
		if rows, err = tx.Query(ctx, `SELECT id, hash, role, lives_ms, migrations FROM migrator.bearers()`); err != nil {
			return err
		}
		var b Bearer
		var hash []byte
		var lives int64
		var names []string
		_, err = pgx.ForEachRow(rows, []any{&b.ID, &hash, &b.Role, &lives, &names}, func() error {
			b.Lives, b.Migrations = time.Duration(lives)*time.Millisecond, map[string]bool{}
			for _, name := range names {
				b.Migrations[name] = true
			}
			bearers[[sha256.Size]byte(hash)] = b
			return nil
		})
		return err
	})
	return routes, bearers, statedb.ExplainFor(err, hint.GrantServer)
}

// Notified calls changed when a route or a token may have changed: at each connect, and at each notification, until ctx
// ends. It has a connection of its own.
func (s *Store) Notified(ctx context.Context, changed func()) error {
	l := statedb.Listener{
		Connect: statedb.Beside(s.pool), Connected: func(context.Context, *pgx.Conn) { changed() }, Heard: func(string) { changed() },
	}
	return l.Listen(ctx)
}
