// Package pgfail explains the failures of a PostgreSQL server: it reads the SQLSTATE,
// and reports in one line why connecting failed.
package pgfail

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that several packages compare with.
const (
	NoDatabase        = "3D000"
	BadPassword       = "28P01"
	BadLogin          = "28000"
	StartingUp        = "57P03"
	AdminShutdown     = "57P01"
	CrashShutdown     = "57P02"
	TooMany           = "53300" // connections
	DiskFull          = "53100"
	LockTimeout       = "55P03" // lock_timeout, NOWAIT
	IdleTooLong       = "25P03" // idle_in_transaction_session_timeout
	Canceled          = "57014" // statement_timeout, or a cancel request
	UndefinedTable    = "42P01"
	UndefinedFunction = "42883"
	UndefinedSchema   = "3F000"
	UndefinedObject   = "42704"
	NoData            = "P0002"
	NotInState        = "55000" // object_not_in_prerequisite_state
	InvalidParameter  = "22023"
	NoPrivilege       = "42501"
	ReadOnly          = "25006"
	NotSupported      = "0A000" // also what a standby answers to BEGIN READ WRITE
	CheckViolation    = "23514"
	UniqueViolation   = "23505"
)

// OldestServer is the oldest version of PostgreSQL, as its server_version_num, that legacy, target and state may
// have: the oldest that make matrix runs.
const OldestServer = 140000

// SQLState is the SQLSTATE of a server's error, "" for any other.
func SQLState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
