// Package schema is ent's description of the table.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
)

// Account is a row of the table accounts.
type Account struct{ ent.Schema }

// docs: schema

// Annotations of Account.
func (Account) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Table("accounts")}
}

// Fields of Account. The struct tags are the migration's columns.
func (Account) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id").StructTag(`db:"id"`),
		field.String("owner").StructTag(`db:"owner"`),
		field.Int64("cents").StructTag(`db:"cents"`),
		field.Time("changed").StructTag(`db:"changed"`),
	}
}

// docs: end
