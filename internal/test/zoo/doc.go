// Package zoo has a value, or several that are easily mistaken for each other, of every type that
// a PostgreSQL server can store, contrib's included, and moves them all.
package zoo
