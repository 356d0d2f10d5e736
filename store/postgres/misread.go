package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// A SQLSTATE alone does not say whose object is missing: a value of type regclass, a trigger of
// the user's table and a statement of this package all fail with 42P01.

// lacks reports whether an error says that something in this package's own schema is missing. The
// server's messages are translated, the names in them are not.
func lacks(err error, schema string, states ...string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains(states, pg.Code) && strings.Contains(pg.Message, schema)
}

// ofARow reports whether an error of class 42, 3F or another that usually concerns a statement
// comes from a row instead: a function ran into it, such as a trigger, or a value names something
// that does not exist. A statement's own fault has a position in it, or is a lack of privileges.
func ofARow(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 || pg.Position > 0 || strings.Contains(pg.Message, "migrator_") {
		return false
	}
	switch pg.Code[:2] {
	case "42", "3F":
		return inFunction(pg) || slices.Contains(missingStates, pg.Code)
	case "0A", "0L", "0P", "2B", "2F", "34", "38", "39", "3B", "HV":
		return inFunction(pg)
	}
	return false
}

// missingStates are what the input of a reg* type raises: no such table, type, function or operator,
// column, schema; several functions; no name.
var missingStates = []string{stateUndefinedTable, stateUndefinedObject, stateUndefinedFunction, "42703", stateNoSchema, "42725", "42601", "42602"}

// isServers reports whether the server refused a statement, and goes on.
func isServers(err error) bool {
	state := pgfail.SQLState(err)
	return len(state) == 5 && state[:2] != "08" && state[:2] != "57"
}

// inFunction reports whether a function of the user's raised the error. pgfail.Withhold, through
// which all errors come, keeps its name alone.
func inFunction(pg *pgconn.PgError) bool {
	return strings.Contains(pg.Message, "withheld, function ") || strings.Contains(pg.Message, ", function ")
}

// refusal is an error of the server about one row, without its message, which may quote a value.
type refusal struct {
	state  string
	column string // "": not known
	where  bool   // a function of the user's raised it
}

func (r *refusal) Error() string {
	column := ""
	if r.column != "" {
		column = " of column " + r.column
	}
	switch class := r.state[:2]; {
	case class == "22":
		return fmt.Sprintf("the server refuses a value%s: it does not fit the column's type (SQLSTATE %s)", column, r.state)
	case r.where:
		return fmt.Sprintf("a trigger or function of the table fails (SQLSTATE %s)", r.state)
	default:
		return fmt.Sprintf("the server refuses a value%s: it names something that this database does not have (SQLSTATE %s)", column, r.state)
	}
}

// SQLState is for [pgfail.SQLState].
func (r *refusal) SQLState() string { return r.state }

// withoutValue replaces the message of an error that may quote a value: values must not reach a
// log.
func withoutValue(err error) error {
	var pg *pgconn.PgError
	switch state := pgfail.SQLState(err); {
	case !errors.As(err, &pg) || len(state) != 5:
		return err
	case state[:2] == "22" || ofARow(err):
		return &refusal{state: state, column: pg.ColumnName, where: state[:2] != "22" && inFunction(pg)}
	}
	return err
}

// nameColumn adds to the refusal of a value which column it is for, where the server has not said:
// only to the first of a call, since it costs a round trip a column, and a thousand refusals mostly
// have one cause.
func (t *Target) nameColumn(ctx context.Context, refused error, r record.Record, results []store.Result) {
	var is, earlier *refusal
	if !errors.As(refused, &is) || is.column != "" || is.where {
		return
	}
	if !slices.ContainsFunc(results, func(r store.Result) bool { return errors.As(r.Err, &earlier) }) {
		is.column = t.shape.refusedColumn(ctx, t.pool, r)
	}
}

// refusedColumn is the name in quotes of the first column whose type does not take its value; "" if each does.
func (s *shape) refusedColumn(ctx context.Context, db querier, r record.Record) string {
	for i, c := range s.columns {
		if i >= len(r) || r[i].State != record.Present || c.generated {
			continue
		}
		text, err := fromCanonical(c.format, r[i].Text)
		if err != nil {
			return strconv.Quote(c.name)
		}
		value := c.input("$1::text")
		fit := "(" + value + ")::" + c.declared + " IS DISTINCT FROM NULL"
		if hasLength(c.declared) { // a cast cuts what is too long, where an assignment fails
			fit = "length((" + value + ")::text) <= length((" + value + ")::" + c.declared + "::text)"
		}
		rows, err := db.Query(ctx, "SELECT "+fit, textResults, text)
		if err != nil {
			return ""
		}
		fits := rows.Next() && string(rows.RawValues()[0]) != "f"
		rows.Close()
		switch err := rows.Err(); {
		case refusedValue(err), err == nil && !fits:
			return strconv.Quote(c.name)
		case err != nil:
			return ""
		}
	}
	return ""
}

func hasLength(declared string) bool {
	return strings.HasPrefix(declared, "character")
}
