package migration

import "fmt"

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// stores lets the stores validate their own parts.
func (v *validator) stores() {
	m := v.m
	v.oneOf("legacy.store", m.Legacy.Store, names(v.kinds, true)...)
	if m.Legacy.Part != nil {
		m.Legacy.Part.Validate(Validation{v})
	}
	v.oneOf("target.store", m.Target.Store, names(v.kinds, false)...)
	if m.Target.Part != nil {
		m.Target.Part.Validate(Validation{v})
	}
	for _, f := range v.foreign {
		store := m.Legacy.Store
		if f.side == "target" {
			store = m.Target.Store
		}
		v.at(f.side+"."+f.key, "is for %s; the %s is %s", f.kind, f.side, store)
	}
}

// Validation collects the errors of a store's part. Paths are those of the whole file:
// target.key, fields[2].
type Validation struct{ v *validator }

// Config is the file.
func (v Validation) Config() *Config { return v.v.m }

// At reports a problem. The message follows the path: "is missing", or `: "x": want y`.
func (v Validation) At(path, format string, args ...any) { v.v.at(path, format, args...) }

// OneOf reports a value that is not allowed.
func (v Validation) OneOf(path, value string, allowed ...string) { v.v.oneOf(path, value, allowed...) }

// Moved reports a column of legacy that is not among those that are moved. because
// completes "the column ...".
func (v Validation) Moved(path, column, because string) { v.v.moved(path, column, because) }

// MissingURL reports that a side has no URL.
func (v Validation) MissingURL(side string) {
	v.v.at(side+".url", "is missing: give it as ${VARIABLE}, or a file's name as %s.url_file", side)
}

// Index is the path of a list's entry.
func (v Validation) Index(path string, i int) string { return index(path, i) }
