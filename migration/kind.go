package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Kind is a kind of store. Its package provides it: redis.Kind(), postgres.Kind(). Load
// and Parse get the kinds that a migration file may name; a program links those alone.
type Kind struct {
	Name   string            // in legacy.store and target.store
	URLs   string            // the form of its URLs, for the file's schema; "": it needs none
	Legacy func() LegacyPart // a new one; nil: the kind can't be legacy
	Target func() TargetPart // a new one; nil: the kind can't be the target
}

// LegacyPart is the part of legacy in a migration file that belongs to one kind of
// store: a pointer to a structure whose fields have the tags yaml, json (in the same
// words, with omitempty where a key may be left out), jsonschema and
// jsonschema_description. The part's JSON is in every config hash: fields may be added
// at the end, with omitempty, and none may be removed.
//
// A part may also be a CapturedPart, KeyedPart, LimitedPart, NamedPart, SQLPart and VersionPart.
type LegacyPart interface {
	// Defaults sets every zero to its default. It may be called more than once.
	Defaults()
	// Validate reports the part's errors, without connecting.
	Validate(v Validation)
	// Open connects to the store, at m.Legacy.URL, and reads the records' shape.
	Open(ctx context.Context, m *Config) (store.Legacy, error)
}

// TargetPart is the part of target, as LegacyPart is that of legacy.
//
// A part may also be an ExpiringPart, LimitedPart, NamedPart and SQLPart.
type TargetPart interface {
	Defaults()
	Validate(v Validation)
	// Open opens the store, at m.Target.URL, for records of legacy's schema.
	Open(ctx context.Context, m *Config, schema *record.Schema) (store.Target, error)
}

// KeyedPart returns the columns of the records' key if the file names them; nil: legacy
// reads them when it opens. Without it: the target's part can't validate against them.
type KeyedPart interface{ KeyColumns() []string }

// ExpiringPart names legacy's column past which a record does not exist; "": none.
// Without it: records don't expire.
type ExpiringPart interface{ ExpiryColumn() string }

// LimitedPart adds a run's limits to the store's URL. A limit that the URL has stays.
// Without it: reconcile.max_connections and reconcile.statement_timeout have no effect.
type LimitedPart interface {
	Limit(url string, l Limits) string
}

// Limits are limits of a run's load; zero: no limit.
type Limits struct {
	Connections int
	Statement   time.Duration
}

// CapturedPart reports what makes its changes impossible to capture, with capture.mode beside or only. Without
// it: the store's changes can't be captured.
type CapturedPart interface{ ValidateCapture(v Validation) }

// NamedPart returns names that runbooks may use: table is ${legacy.table} or
// ${target.table}. Without it: the store's kind alone.
type NamedPart interface{ Names() map[string]string }

// VersionPart returns the SQL of a write's version, for the RETURNING clause of the write.
// Without it: applications have their own.
type VersionPart interface{ VersionExpr(migration string) string }

// SQLPart marks a store that speaks PostgreSQL's protocol. Without it: steps of runbooks
// can't send it SQL.
type SQLPart interface{ SpeaksSQL() }

// OpenLegacy connects to the legacy store that the file names.
func (m *Config) OpenLegacy(ctx context.Context) (store.Legacy, error) {
	if m.Legacy.Part == nil {
		return nil, unknownStore("legacy", m.Legacy.Store)
	}
	return m.Legacy.Part.Open(ctx, m)
}

// OpenTarget opens the target store that the file names. The schema is legacy's.
func (m *Config) OpenTarget(ctx context.Context, schema *record.Schema) (store.Target, error) {
	if m.Target.Part == nil {
		return nil, unknownStore("target", m.Target.Store)
	}
	return m.Target.Part.Open(ctx, m, schema)
}

// ForgettingPart opens a store to remove a migration from it; its table may be gone. schema is that of
// the records as it was applied. Without it: the store keeps nothing of a migration.
type ForgettingPart interface {
	OpenForget(ctx context.Context, m *Config, schema *record.Schema, o store.ForgetOptions) (store.Forgetter, error)
}

func unknownStore(side, kind string) error {
	if kind == "" {
		return errors.New(side + ".store is missing")
	}
	return fmt.Errorf("%s.store %q: this program does not link such a store", side, kind)
}

// LimitLoad adds the file's limits of a run to the stores' URLs.
func (m *Config) LimitLoad() {
	l := Limits{Connections: m.Reconcile.MaxConnections, Statement: time.Duration(m.Reconcile.StatementTimeout)}
	if p, ok := m.Legacy.Part.(LimitedPart); ok {
		m.Legacy.URL = p.Limit(m.Legacy.URL, l)
	}
	if p, ok := m.Target.Part.(LimitedPart); ok {
		m.Target.URL = p.Limit(m.Target.URL, l)
	}
}

// KeyColumns are the columns of the records' key, if the file names them.
func (m *Config) KeyColumns() []string {
	if p, ok := m.Legacy.Part.(KeyedPart); ok {
		return p.KeyColumns()
	}
	return nil
}

// ExpiryColumn is legacy's column past which a record does not exist; "": none.
func (m *Config) ExpiryColumn() string {
	if p, ok := m.Target.Part.(ExpiringPart); ok {
		return p.ExpiryColumn()
	}
	return ""
}

// names lists the kinds that can be legacy, or the target.
func names(kinds []Kind, legacy bool) []string {
	var list []string
	for _, k := range kinds {
		if legacy && k.Legacy != nil || !legacy && k.Target != nil {
			list = append(list, k.Name)
		}
	}
	return list
}
