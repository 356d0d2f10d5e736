package postgres

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// KindName is the value of legacy.store and target.store for this store.
const KindName = "postgres"

// Kind is for migration.Load: PostgreSQL can be legacy and a target.
func Kind() migration.Kind {
	return migration.Kind{
		Name:   KindName,
		URLs:   "postgres://...",
		Legacy: func() migration.LegacyPart { return &LegacyConfig{} },
		Target: func() migration.TargetPart { return &TargetConfig{} },
	}
}

// LegacyConfig is the part of legacy in a migration file that is PostgreSQL's own.
type LegacyConfig struct {
	Table         string   `yaml:"table" json:"table" jsonschema:"required" jsonschema_description:"The table, with its schema if not public; names with dots or capitals in double quotes"`
	Key           []string `yaml:"key" json:"key,omitempty" jsonschema_description:"The key's columns; empty: the primary key"`
	VersionColumn string   `yaml:"version_column" json:"version_column,omitempty" jsonschema_description:"A column that grows with every change, through delete and re-insert too; empty: versions from the write-ahead log"`
	// Standbys is nil where the file does not name them. It is no part of what moves, nor of the hash:
	// it may be changed beside a running migration.
	Standbys []string `yaml:"standbys" json:"-" jsonschema_description:"The standbys that may be promoted, by application_name or slot: the fence waits for exactly these; [] for none. Absent: those of physical slots and synchronous_standby_names, and what streams"`
}

// TargetConfig is the part of target in a migration file that is PostgreSQL's own.
type TargetConfig struct {
	Table string `yaml:"table" json:"table,omitempty" jsonschema_description:"postgres: the table"`
}

var (
	_ migration.LegacyPart  = (*LegacyConfig)(nil)
	_ migration.KeyedPart   = (*LegacyConfig)(nil)
	_ migration.LimitedPart = (*LegacyConfig)(nil)
	_ migration.NamedPart   = (*LegacyConfig)(nil)
	_ migration.SQLPart     = (*LegacyConfig)(nil)
	_ migration.VersionPart = (*LegacyConfig)(nil)

	_ migration.CapturedPart = (*LegacyConfig)(nil)

	_ migration.ForgettingPart = (*LegacyConfig)(nil)
	_ migration.ForgettingPart = (*TargetConfig)(nil)

	_ migration.TargetPart  = (*TargetConfig)(nil)
	_ migration.LimitedPart = (*TargetConfig)(nil)
	_ migration.NamedPart   = (*TargetConfig)(nil)
	_ migration.SQLPart     = (*TargetConfig)(nil)
)

// Defaults implements migration.LegacyPart: there are none.
func (c *LegacyConfig) Defaults() {}

// Defaults implements migration.TargetPart: there are none.
func (c *TargetConfig) Defaults() {}

// Open implements migration.LegacyPart; see OpenLegacy.
func (c *LegacyConfig) Open(ctx context.Context, m *migration.Config) (store.Legacy, error) {
	l, err := OpenLegacy(ctx, m, m.Legacy.URL)
	if err != nil {
		return nil, err // not a nil *Legacy in an interface
	}
	return l, nil
}

// Open implements migration.TargetPart; see OpenTarget.
func (c *TargetConfig) Open(ctx context.Context, m *migration.Config, schema *record.Schema) (store.Target, error) {
	t, err := OpenTarget(ctx, m, m.Target.URL, schema)
	if err != nil {
		return nil, err // not a nil *Target in an interface
	}
	return t, nil
}

// KeyColumns implements migration.KeyedPart.
func (c *LegacyConfig) KeyColumns() []string { return c.Key }

// VersionExpr implements migration.VersionPart; see the functions of the same name. A DELETE
// with a version_column needs a number of its own: VersionColumnExpr.
func (c *LegacyConfig) VersionExpr(migration string) string {
	if c.VersionColumn != "" {
		return VersionColumnExpr(migration, quote(c.VersionColumn))
	}
	return VersionExpr(migration)
}

// SpeaksSQL implements migration.SQLPart.
func (c *LegacyConfig) SpeaksSQL() {}

// SpeaksSQL implements migration.SQLPart.
func (c *TargetConfig) SpeaksSQL() {}

// Names implements migration.NamedPart.
func (c *LegacyConfig) Names() map[string]string { return map[string]string{"table": c.Table} }

// Names implements migration.NamedPart.
func (c *TargetConfig) Names() map[string]string {
	if c.Table == "" {
		return nil
	}
	return map[string]string{"table": c.Table}
}

// Limit implements migration.LimitedPart.
func (c *LegacyConfig) Limit(url string, l migration.Limits) string { return limited(url, l) }

// Limit implements migration.LimitedPart.
func (c *TargetConfig) Limit(url string, l migration.Limits) string { return limited(url, l) }

func limited(url string, l migration.Limits) string {
	add := map[string]string{}
	if l.Connections > 0 {
		add["pool_max_conns"] = strconv.Itoa(l.Connections)
	}
	if l.Statement > 0 {
		add["statement_timeout"] = strconv.FormatInt(l.Statement.Milliseconds(), 10)
	}
	return migration.AddParameters(url, add)
}

// Validate implements migration.LegacyPart.
func (c *LegacyConfig) Validate(v migration.Validation) {
	validateName(v)
	validateURL(v, "legacy", v.Config().Legacy.URL)
	validateTable(v, "legacy.table", c.Table)
	for i, name := range c.Key {
		switch {
		case name == "":
			v.At(v.Index("legacy.key", i), "is empty")
		case slices.Contains(c.Key[:i], name):
			v.At(v.Index("legacy.key", i), "%q is named twice", name)
		}
	}
	for i, name := range c.Standbys {
		switch {
		case name == "":
			v.At(v.Index("legacy.standbys", i), "is empty")
		case slices.Contains(c.Standbys[:i], name):
			v.At(v.Index("legacy.standbys", i), ": %q is named twice", name)
		}
	}
	for i, name := range c.Key {
		v.Moved(v.Index("legacy.key", i), name, "is a column of the key")
	}
}

// ValidateCapture implements migration.CapturedPart.
func (c *LegacyConfig) ValidateCapture(v migration.Validation) {
	if c.VersionColumn != "" {
		v.At("capture.mode", ": %q: the log of a delete does not have legacy.version_column: leave that out, so that versions come from the log", v.Config().Capture.Mode)
	}
}

// Validate implements migration.TargetPart.
func (c *TargetConfig) Validate(v migration.Validation) {
	m := v.Config()
	if _, named := m.Legacy.Part.(*LegacyConfig); !named {
		validateName(v)
	}
	validateURL(v, "target", m.Target.URL)
	validateTable(v, "target.table", c.Table)
	legacy, same := m.Legacy.Part.(*LegacyConfig)
	if same && m.Target.URL != "" && m.Target.URL == m.Legacy.URL && c.Table == legacy.Table {
		v.At("target.table", "is the legacy table itself")
	}
}

func validateName(v migration.Validation) {
	if name := v.Config().Name; len(name) > maxName {
		v.At("name", ": %q: with PostgreSQL %d characters at most: the names of its sequence and its tables are made of it", name, maxName)
	}
}

func validateURL(v migration.Validation, side, url string) {
	scheme, _, ok := strings.Cut(url, "://")
	switch {
	case url == "":
		v.MissingURL(side)
	case ok && (scheme == "postgres" || scheme == "postgresql"):
	case !ok && strings.Contains(url, "="): // host=... user=...
	default:
		v.At(side+".url", "is no URL of a PostgreSQL server: want postgres://user@host:port/database")
	}
}

var tableName = regexp.MustCompile(`^(` + sqlName + `\.)?` + sqlName + `$`)

const sqlName = `(?:"(?:[^"\x00]|"")+"|[\pL_][\pL\pN_$]*)`

func validateTable(v migration.Validation, path, table string) {
	switch {
	case table == "":
		v.At(path, "is missing")
	case !tableName.MatchString(table):
		v.At(path, `: %q: want a table, or a schema and a table with a dot between; put names with blanks, dots, capitals or other signs in double quotes: '"Order Items"'`, table)
	}
}

// legacyConfig returns the file's part for legacy; empty if the file has none.
func legacyConfig(m *migration.Config) *LegacyConfig {
	if c, ok := m.Legacy.Part.(*LegacyConfig); ok {
		return c
	}
	return &LegacyConfig{}
}

// targetConfig returns the file's part for the target; empty if the file has none.
func targetConfig(m *migration.Config) *TargetConfig {
	if c, ok := m.Target.Part.(*TargetConfig); ok {
		return c
	}
	return &TargetConfig{}
}
