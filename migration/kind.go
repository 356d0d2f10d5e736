package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Kind is a kind of store, which its package describes: redis.Kind(), postgres.Kind().
// Load and Parse are given the kinds that a migration file may name; a program links
// those alone.
type Kind struct {
	Name   string            // in legacy.store and target.store
	URLs   string            // how a URL of it looks, for the file's schema; "": it needs none
	Legacy func() LegacyPart // a new one; nil: the kind can't be legacy
	Target func() TargetPart // a new one; nil: the kind can't be the target
}

// LegacyPart is the part of legacy in a migration file that belongs to one kind of
// store: a pointer to a structure whose fields have the tags yaml, json (in the same
// words, with omitempty where a key may be left out), jsonschema and
// jsonschema_description. The part's JSON is in every hash that evidence is bound to:
// fields may be added at the end, with omitempty, and none may go.
//
// A part may also be a KeyedPart, LimitedPart, NamedPart and SQLPart.
type LegacyPart interface {
	// Defaults sets what is zero to its default, again and again.
	Defaults()
	// Validate reports what is wrong with the part, without connecting.
	Validate(v Validation)
	// Open connects to the store, at m.Legacy.URL, and reads the records' shape.
	Open(ctx context.Context, m *Config) (store.Legacy, error)
}

// TargetPart is what LegacyPart is, of the target.
//
// A part may also be an ExpiringPart, LimitedPart, NamedPart and SQLPart.
type TargetPart interface {
	Defaults()
	Validate(v Validation)
	// Open opens the store, at m.Target.URL, for records of legacy's schema.
	Open(ctx context.Context, m *Config, schema *record.Schema) (store.Target, error)
}

// KeyedPart names the columns of the records' key, if the file does; nil: legacy knows
// them once it is open. Without it: the target's part can't compare with them.
type KeyedPart interface{ KeyColumns() []string }

// ExpiringPart names legacy's column past which a record does not exist; "": none.
// Without it: records don't expire.
type ExpiringPart interface{ ExpiryColumn() string }

// LimitedPart makes a URL say what a run may use of the store. What the URL says
// itself is not loosened. Without it: reconcile.max_connections and
// reconcile.statement_timeout do nothing.
type LimitedPart interface {
	Limit(url string, l Limits) string
}

// Limits are bounds of a run's load; a zero is none.
type Limits struct {
	Connections int
	Statement   time.Duration
}

// NamedPart gives names that runbooks may write: table is ${legacy.table} or
// ${target.table}. Without it: there are none but the store's kind.
type NamedPart interface{ Names() map[string]string }

// SQLPart tells that the store speaks PostgreSQL's protocol. Without it: steps of
// runbooks can't send it SQL.
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

func unknownStore(side, kind string) error {
	if kind == "" {
		return errors.New(side + ".store is missing")
	}
	return fmt.Errorf("%s.store %q: this program does not link such a store", side, kind)
}

// LimitLoad makes the stores' URLs say what the file allows a run.
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
