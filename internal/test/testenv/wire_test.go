package testenv

import "github.com/jackc/pgx/v5/pgproto3"

type pgQuery = pgproto3.Query

// isReadyOrCopying: a walsender either ends a command or streams after this message.
func isReadyOrCopying(msg pgproto3.BackendMessage) bool {
	switch msg.(type) {
	case *pgproto3.ReadyForQuery, *pgproto3.CopyBothResponse:
		return true
	}
	return false
}
