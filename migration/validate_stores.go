package migration

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func (v *validator) legacy() {
	l := v.m.Legacy
	v.oneOf("legacy.store", l.Store, "postgres")
	if l.Store == "postgres" {
		v.postgresURL("legacy.url", l.URL)
	}
	v.table("legacy.table", l.Table)
	for i, name := range l.Key {
		switch {
		case name == "":
			v.at(index("legacy.key", i), "is empty")
		case slices.Contains(l.Key[:i], name):
			v.at(index("legacy.key", i), "%q is named twice", name)
		}
	}
}

func (v *validator) target() {
	t := v.m.Target
	v.oneOf("target.store", t.Store, "redis", "postgres")
	switch t.Store {
	case "redis":
		v.redis(t)
	case "postgres":
		v.postgresURL("target.url", t.URL)
		v.table("target.table", t.Table)
		for _, only := range []struct{ key, value string }{
			{"key", t.KeyTemplate}, {"format", t.Format}, {"expires", t.Expires}, {"version_field", t.VersionField},
		} {
			if only.value != "" {
				v.at("target."+only.key, "is for redis; the target is postgres")
			}
		}
		if t.URL != "" && t.URL == v.m.Legacy.URL && t.Table == v.m.Legacy.Table {
			v.at("target.table", "is the legacy table itself")
		}
	}
}

func (v *validator) redis(t Target) {
	scheme, _, ok := strings.Cut(t.URL, "://")
	switch {
	case t.URL == "":
		v.missingURL("target.url")
	case !ok || !strings.HasPrefix(scheme, "redis") && scheme != "unix":
		v.at("target.url", "is no URL of a Redis server: want redis://..., rediss://... or redis+sentinel://...")
	}
	if t.Table != "" {
		v.at("target.table", "is for postgres; the target is redis")
	}
	v.oneOf("target.format", t.Format, "hash", "json")
	switch columns, err := templateColumns(t.KeyTemplate); {
	case t.KeyTemplate == "":
		v.at("target.key", "is missing: want the template of a record's key, such as product:{id}")
	case err != nil:
		v.at("target.key", ": %q: %v", t.KeyTemplate, err)
	default:
		v.templateFits(columns)
	}
}

// templateFits compares the template with the key, where the description names it.
func (v *validator) templateFits(columns []string) {
	key := v.m.Legacy.Key
	if len(key) == 0 {
		return
	}
	for _, name := range key {
		if !slices.Contains(columns, name) {
			v.at("target.key", "lacks {%s}: records that differ in that column alone would share a key", name)
		}
	}
	for _, name := range columns {
		if !slices.Contains(key, name) {
			v.at("target.key", "has {%s}, which is no column of legacy.key", name)
		}
	}
}

// templateColumns returns the columns that a key template names. Whether two
// records could get the same key is for the store to say, which knows the types.
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
		name, tail, ok := strings.Cut(rest[at+1:], "}")
		switch {
		case !ok:
			return nil, errors.New("{ without }; write {{ for a literal one")
		case name == "" || strings.Contains(name, "{"):
			return nil, fmt.Errorf("{%s}: want a column's name between the braces", name)
		case slices.Contains(columns, name):
			return nil, fmt.Errorf("{%s} stands there twice", name)
		}
		columns, rest = append(columns, name), tail
	}
}

func (v *validator) postgresURL(path, url string) {
	scheme, _, ok := strings.Cut(url, "://")
	switch {
	case url == "":
		v.missingURL(path)
	case ok && (scheme == "postgres" || scheme == "postgresql"):
	case !ok && strings.Contains(url, "="): // host=... user=...
	default:
		v.at(path, "is no URL of a PostgreSQL server: want postgres://user@host:port/database")
	}
}

func (v *validator) missingURL(path string) {
	side, _, _ := strings.Cut(path, ".")
	v.at(path, "is missing: give it as ${VARIABLE}, or a file's name as %s.url_file", side)
}

var tableName = regexp.MustCompile(`^(` + sqlName + `\.)?` + sqlName + `$`)

const sqlName = `(?:"(?:[^"\x00]|"")+"|[\pL_][\pL\pN_$]*)`

func (v *validator) table(path, table string) {
	switch {
	case table == "":
		v.at(path, "is missing")
	case !tableName.MatchString(table):
		v.at(path, `: %q: want a table, or a schema and a table with a dot between; put names with blanks, dots, capitals or other signs in double quotes: '"Order Items"'`, table)
	}
}
