package runbooks

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Verified stores the result of a runbook's verification. The gate reads the newest
// result of the runbook rollback, passed or not.
func (r *Runs) Verified(ctx context.Context, name, source string, passed bool, checks []store.Check) (v phases.VerificationResult, err error) {
	for i := range checks {
		checks[i].Detail, checks[i].Hint.Text = statedb.CleanText(checks[i].Detail), statedb.CleanText(checks[i].Hint.Text)
	}
	findings, err := json.Marshal(checks)
	if err != nil {
		return v, err
	}
	err = r.pool.QueryRow(ctx, `INSERT INTO migrator.runbook_verifications (migration, runbook, source_hash, config_hash, passed, findings)
		SELECT name, $2, $3, config_hash, $4, $5::jsonb FROM migrator.migrations WHERE name = $1
		RETURNING runbook, source_hash, config_hash, passed, at`, r.migration, name, HashSource(source), passed, string(findings)).
		Scan(&v.Runbook, &v.SourceHash, &v.ConfigHash, &v.Passed, &v.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, statedb.UnknownMigration(ctx, r.pool, r.migration)
	}
	return v, statedb.Explain(err)
}
