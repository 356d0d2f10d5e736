package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// KindName is the value of target.store for this store.
const KindName = "redis"

// Kind is for migration.Load: Redis can be a target.
func Kind() migration.Kind {
	return migration.Kind{
		Name:   KindName,
		URLs:   "redis://..., rediss://..., redis+sentinel://..., redis://...?addr=... for a cluster",
		Target: func() migration.TargetPart { return &TargetConfig{} },
	}
}

// numbersAsStrings is the value of target.numbers.
const numbersAsStrings = "string"

// TargetConfig is the part of target in a migration file that is Redis's own.
type TargetConfig struct {
	KeyTemplate  string `yaml:"key" json:"key,omitempty" jsonschema_description:"redis: the key's template, such as product:{id}; {{ and }} are literal braces"`
	Format       string `yaml:"format" json:"format,omitempty" jsonschema:"enum=hash,enum=json" jsonschema_description:"redis: one hash (default) or one JSON string a record"`
	Expires      string `yaml:"expires" json:"expires,omitempty" jsonschema_description:"redis: timestamp column past which the record does not exist"`
	VersionField string `yaml:"version_field" json:"version_field,omitempty" jsonschema_description:"redis: the reserved field that holds the version (default _v)"`
	Numbers      string `yaml:"numbers" json:"numbers,omitempty" jsonschema:"enum=string" jsonschema_description:"redis, format json: string writes bigint and numeric as strings, so that no reader rounds them; empty: as numbers, with every digit"`
}

var (
	_ migration.TargetPart   = (*TargetConfig)(nil)
	_ migration.ExpiringPart = (*TargetConfig)(nil)
	_ migration.LimitedPart  = (*TargetConfig)(nil)
	_ migration.NamedPart    = (*TargetConfig)(nil)
)

// Defaults implements migration.TargetPart.
func (c *TargetConfig) Defaults() {
	if c.Format == "" {
		c.Format = "hash"
	}
	if c.VersionField == "" {
		c.VersionField = defaultVersionField
	}
}

// Open implements migration.TargetPart; see the function Open.
func (c *TargetConfig) Open(ctx context.Context, m *migration.Config, schema *record.Schema) (store.Target, error) {
	t, err := Open(ctx, m, m.Target.URL, schema)
	if err != nil {
		return nil, err // not a nil *Target in an interface
	}
	return t, nil
}

// ExpiryColumn implements migration.ExpiringPart.
func (c *TargetConfig) ExpiryColumn() string { return c.Expires }

// Limit implements migration.LimitedPart. Redis has no limit for a statement's duration.
func (c *TargetConfig) Limit(url string, l migration.Limits) string {
	if l.Connections == 0 {
		return url
	}
	return migration.AddParameters(url, map[string]string{"pool_size": strconv.Itoa(l.Connections)})
}

// Names implements migration.NamedPart.
func (c *TargetConfig) Names() map[string]string {
	if c.KeyTemplate == "" {
		return nil
	}
	prefix, _, _ := strings.Cut(c.KeyTemplate, "{")
	return map[string]string{"key_prefix": prefix}
}

// Validate implements migration.TargetPart.
func (c *TargetConfig) Validate(v migration.Validation) {
	m := v.Config()
	scheme, _, ok := strings.Cut(m.Target.URL, "://")
	switch {
	case m.Target.URL == "":
		v.MissingURL("target")
	case !ok || !strings.HasPrefix(scheme, "redis") && scheme != "unix":
		v.At("target.url", "is no URL of a Redis server: want redis://..., rediss://... or redis+sentinel://...")
	}
	v.OneOf("target.format", c.Format, "hash", "json")
	switch {
	case c.Numbers == "":
	case c.Numbers != numbersAsStrings:
		v.At("target.numbers", ": %q: want string, or leave it out", c.Numbers)
	case c.Format != "json":
		v.At("target.numbers", "goes with format: json; a hash has texts")
	}
	switch columns, err := templateColumns(c.KeyTemplate); {
	case c.KeyTemplate == "":
		v.At("target.key", "is missing: want the template of a record's key, such as product:{id}")
	case err != nil:
		v.At("target.key", ": %q: %v", c.KeyTemplate, err)
	default:
		templateFits(v, columns)
	}
	for i, f := range m.Fields {
		if to := cmp.Or(f.Target, f.Name); f.Name != "" && to == c.VersionField {
			v.At(v.Index("fields", i), "%q would be written to %q, which holds the version; rename the one or set target.version_field", f.Name, to)
		}
	}
	if c.Expires != "" {
		v.Moved("target.expires", c.Expires, "says when a record ends")
	}
}

// templateFits compares the template with the key, where the file names it.
func templateFits(v migration.Validation, columns []string) {
	key := v.Config().KeyColumns()
	if len(key) == 0 {
		return
	}
	for _, name := range key {
		if !slices.Contains(columns, name) {
			v.At("target.key", "lacks {%s}: records that differ in that column alone would share a key", name)
		}
	}
	for _, name := range columns {
		if !slices.Contains(key, name) {
			v.At("target.key", "has {%s}, which is no column of legacy.key", name)
		}
	}
}

// templateColumns returns the columns that a key template names. Whether two
// records could have the same key is decided by ParseTemplate, which knows the types.
func templateColumns(template string) ([]string, error) {
	var columns []string
	for rest := template; ; {
		at := strings.IndexAny(rest, "{}")
		switch {
		case at < 0 && len(columns) == 0:
			return nil, errors.New("it names no column: every record would have the same key; write {id}")
		case at < 0:
			return columns, nil
		case at+1 < len(rest) && rest[at+1] == rest[at]:
			rest = rest[at+2:]
			continue
		case rest[at] == '}':
			return nil, errors.New("} without {; write }} for a literal one")
		}
		name, end := placeholder(rest[at:])
		switch {
		case end < 0:
			return nil, errors.New("{ without }; write {{ for a literal one")
		case name == "" || rest[at+1] != '"' && strings.Contains(name, "{"):
			return nil, fmt.Errorf("{%s}: want a column's name between the braces", name)
		case slices.Contains(columns, name):
			return nil, fmt.Errorf("{%s} appears twice", name)
		}
		columns, rest = append(columns, name), rest[at+end+1:]
	}
}
