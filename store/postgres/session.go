package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
)

// sessionSettings are what a session of a store has, on both sides, whatever the defaults of the
// role, the database or the server are. Each is written as the server prints it, and is known to
// every supported version.
//
// Not here, since they are for others to set: search_path, which the triggers of users' tables
// rely on (plan warns of the types whose texts depend on it); lc_monetary, without which a reader
// of the target would see another currency (plan warns of money); synchronous_commit and
// default_transaction_read_only, which plan checks; role; the costs and memory of the planner.
var sessionSettings = map[string]string{
	// How values are printed.
	"client_encoding":       "UTF8",
	"DateStyle":             "ISO, YMD",
	"TimeZone":              "UTC",
	"IntervalStyle":         "iso_8601",
	"extra_float_digits":    "1",
	"bytea_output":          "hex",
	"quote_all_identifiers": "off",
	// How texts are read.
	"array_nulls":                 "on",
	"xmloption":                   "content",
	"timezone_abbreviations":      "Default",
	"standard_conforming_strings": "on",
	"backslash_quote":             "safe_encoding",
	"transform_null_equals":       "off",
	// Which rows a statement sees. row_security=off turns a policy that would hide rows into an
	// error: a store that sees only some rows must not be compared.
	"row_security":                   "off",
	"gin_fuzzy_search_limit":         "0",
	"default_transaction_isolation":  "read committed",
	"default_transaction_deferrable": "off",
	// What ends a statement or a session: the jobs have limits of their own.
	"idle_in_transaction_session_timeout": "0",
	"exit_on_error":                       "off",
	// Nearly all statements here name some hundred keys. The planner overestimates the
	// cost of index lookups, and has no statistics of a table that was just loaded: it
	// would read a whole table of 100,000 rows for each batch. See readWholeTables. It would also
	// compile such a small statement, for its cost.
	"enable_seqscan":           "off",
	"enable_hashjoin":          "off",
	"enable_mergejoin":         "off",
	"enable_indexscan":         "on",
	"enable_indexonlyscan":     "on",
	"enable_bitmapscan":        "on",
	"enable_tidscan":           "on",
	"enable_nestloop":          "on",
	"enable_partition_pruning": "on",
	"jit":                      "off",
	"plan_cache_mode":          "auto",
}

// limitSettings are set too, unless the URL has them.
var limitSettings = map[string]string{"statement_timeout": "0", "lock_timeout": "0"}

// laterSettings are set where the server knows them, or, as session_replication_role, where they
// are not so by themselves: only a superuser may set that one.
var laterSettings = map[string]string{
	"idle_session_timeout":              "0",      // from 14 on
	"transaction_timeout":               "0",      // from 17 on
	"session_replication_role":          "origin", // else no foreign key is checked, and no trigger runs
	"log_parameter_max_length_on_error": "0",      // from 13 on: errors would quote values
}

// withSessionSettings makes every connection of a pool begin with the settings, and end if it
// has not got them: a pooler may drop or refuse what a client asks for.
func withSessionSettings(config *pgxpool.Config, side string) {
	params := config.ConnConfig.RuntimeParams
	want := maps.Clone(sessionSettings)
	for name := range params {
		if _, ours := sessionSettings[name]; !ours && slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(n string) bool { return strings.EqualFold(n, name) }) {
			delete(params, name) // datestyle
		}
	}
	for name, value := range limitSettings {
		if _, given := params[name]; !given {
			want[name] = value
		}
	}
	maps.Copy(params, want)
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return settle(ctx, conn.PgConn(), side, want) }
}

// settle compares a session with what it must have, and sets what can't be set as it begins. By the simple protocol, the
// only one of a connection that reads the log.
func settle(ctx context.Context, conn *pgconn.PgConn, side string, want map[string]string) error {
	var settings []string
	for n, of := range []map[string]string{want, laterSettings} {
		for name, value := range of {
			settings = append(settings, "("+literal(name)+", "+literal(value)+", "+strconv.FormatBool(n == 1)+")")
		}
	}
	results, err := conn.Exec(ctx, `
		SELECT s.name, s.value, CASE WHEN s.late AND s.now <> s.value THEN set_config(s.name, s.value, false) ELSE s.now END
		FROM (SELECT u.*, current_setting(u.name, true) AS now FROM (VALUES `+strings.Join(settings, ", ")+`) AS u(name, value, late)) AS s
		WHERE s.now IS NOT NULL`).ReadAll()
	if hasState(err, statePrivilege) {
		return hint.Errorf(hint.Hint{Text: "ALTER ROLE ... RESET session_replication_role, and ALTER DATABASE ... likewise"},
			"a session of the %s PostgreSQL must have session_replication_role = origin, which only a superuser may set: %w", side, err)
	}
	if err != nil {
		return fmt.Errorf("set up a session of the %s PostgreSQL: %w", side, err)
	}
	for _, r := range results {
		for _, row := range r.Rows {
			if name, value, has := string(row[0]), string(row[1]), string(row[2]); has != value {
				return hint.Errorf(hint.Hint{Text: "connect to the server itself, or through a pooler that passes on what a client asks for"},
					"a session of the %s PostgreSQL has %s = %s, where %s is needed", side, name, has, value)
			}
		}
	}
	return nil
}
