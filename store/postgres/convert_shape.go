package postgres

import (
	"cmp"
	"slices"

	"github.com/stranglerfig/migrator/record"
)

// convert gives the target's columns the conversions that their fields need. A key's column has
// none: a key must read the same in both stores.
func (s *shape) convert(rules []record.Rule) {
	s.verdicts = make([]verdict, len(s.columns))
	for i, c := range s.columns {
		if c == nil || slices.Contains(s.key, i) {
			continue
		}
		var rule record.Rule
		path := record.AppendPointer("", s.schema.Fields[i].Name)
		if at := slices.IndexFunc(rules, func(r record.Rule) bool { return r.Path == path }); at >= 0 {
			rule = rules[at]
		}
		p := pairOf(&s.schema.Fields[i], c, rule, path)
		c.conversion, s.verdicts[i] = p.convert()
	}
}

func pairOf(f *record.Field, c *column, rule record.Rule, path string) *pair {
	p := &pair{
		from: f.Kind, to: c.format.kind, legacy: parsePlain(cmp.Or(f.Base, f.Type)), target: parsePlain(cmp.Or(c.plain, c.declared)),
		enum: c.enum, as: rule.As, zone: rule.Zone, fieldNames: path,
	}
	p.legacy.array, p.target.array = f.Kind == record.Array, c.format.kind == record.Array
	if p.legacy.array {
		p.from = f.Element
	}
	if p.target.array {
		p.to = c.format.element
	}
	return p
}

// checkConversions says of each column whose type is not legacy's what becomes of its values.
func (t *Target) checkConversions(f *findings) {
	for i, c := range t.shape.columns {
		field, v := t.shape.schema.Fields[i], t.shape.verdicts[i]
		if c.generated || v.fit == sameType {
			continue
		}
		detail := "column %q is of type %s, legacy's %q of type %s: %s"
		remedy := cmp.Or(v.remedy, "ALTER TABLE "+t.shape.name.Sanitize()+" ALTER COLUMN "+quote(c.name)+" TYPE "+field.Type)
		switch v.fit {
		case lossless:
			f.good("target-fields", detail, c.name, c.declared, field.Name, field.Type, v.detail)
		case partly:
			f.warn("target-fields", remedy, detail, c.name, c.declared, field.Name, field.Type, v.detail)
		case needsAs:
			if v.remedy != "" {
				remedy += "; or give the column legacy's type"
			}
			f.refuse("target-fields", remedy, detail, c.name, c.declared, field.Name, field.Type, v.detail)
		case refused:
			f.refuse("target-fields", remedy, detail, c.name, c.declared, field.Name, field.Type, v.detail)
		}
	}
}
