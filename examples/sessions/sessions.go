// Package sessions is an application's table that moves, with database/sql and lib/pq.
package sessions

import (
	"context"
	"database/sql"
	"errors"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

// Session is the application's own type; its tags are the migration's columns.
type Session struct {
	Token   string    `db:"token"`
	UserID  int64     `db:"user_id"`
	Expires time.Time `db:"expires"`
}

// Store is the application's access to its sessions.
type Store struct {
	*kit.Records[string, Session] // Get, and the writes below
	db                            *sql.DB
}

// Open joins the migration. Close, or the end of Serve, leaves it.
func Open(ctx context.Context, db *sql.DB, m *migration.Config, o kit.Options) (s *Store, err error) {
	s = &Store{db: db}
	s.Records, err = kit.Open(ctx, m, o, kit.Binding[string, Session]{Read: s.read})
	return s, err
}

func (s *Store) read(ctx context.Context, token string) (Session, bool, error) {
	found := Session{Token: token}
	err := s.db.QueryRowContext(ctx, `SELECT user_id, expires FROM sessions WHERE token = $1`, token).Scan(&found.UserID, &found.Expires)
	if errors.Is(err, sql.ErrNoRows) {
		return found, false, nil
	}
	return found, err == nil, err
}

// Save makes a session, or replaces one whole.
func (s *Store) Save(ctx context.Context, v Session) error {
	return s.Put(ctx, v.Token, v, func(ctx context.Context) (version record.Version, err error) {
		err = s.db.QueryRowContext(ctx, `INSERT INTO sessions (token, user_id, expires) VALUES ($1, $2, $3)
			ON CONFLICT (token) DO UPDATE SET user_id = $2, expires = $3 RETURNING `+s.Version, v.Token, v.UserID, v.Expires).Scan(&version)
		return version, err
	})
}

// Extend makes a session last longer: by what it has, so the write has two forms.
func (s *Store) Extend(ctx context.Context, token string, by time.Duration) error {
	return s.Write(ctx, dual.Op[string, Session]{
		Keys: []string{token},
		Legacy: func(ctx context.Context) ([]dual.Change[string, Session], error) {
			c := dual.Change[string, Session]{Key: token}
			v := &c.Value
			err := s.db.QueryRowContext(ctx, `UPDATE sessions SET expires = expires + $2 * interval '1 microsecond' WHERE token = $1
				RETURNING token, user_id, expires, `+s.Version, token, by.Microseconds()).Scan(&v.Token, &v.UserID, &v.Expires, &c.Version)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, ErrNoSession
			}
			return []dual.Change[string, Session]{c}, err
		},
		Update: func(_ string, current Session, found bool) (Session, bool, error) {
			if !found {
				return current, false, ErrNoSession
			}
			current.Expires = current.Expires.Add(by)
			return current, false, nil
		},
	})
}

// End deletes a session.
func (s *Store) End(ctx context.Context, token string) error {
	return s.Delete(ctx, token, func(ctx context.Context) (version record.Version, err error) {
		err = s.db.QueryRowContext(ctx, `DELETE FROM sessions WHERE token = $1 RETURNING `+s.Version, token).Scan(&version)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil // there was none: the zero version
		}
		return version, err
	})
}
