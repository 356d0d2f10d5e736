package statedb

import (
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
)

// RefuseOld refuses a server of the state that is older than what the schema and the queries use, by what it said
// as it was connected to. It is checked before the first statement: an old one would fail half-way, and with
// other words.
func RefuseOld(conn *pgx.Conn) error {
	if text := conn.PgConn().ParameterStatus("server_version"); isOld(text) {
		return hint.Errorf(hint.Hint{Do: hint.SetStateURL, Text: "of a database on PostgreSQL 14 or later"}, "the state database's server is PostgreSQL %s: 14 is the oldest that is supported", text)
	}
	return nil
}

// isOld reports whether a server_version is of a server that is refused. What names no version is met by its statements.
func isOld(version string) bool {
	digits := strings.TrimLeft(version, "0123456789")
	major, err := strconv.Atoi(strings.TrimSuffix(version, digits))
	return err == nil && major < pgfail.OldestServer/10000
}
