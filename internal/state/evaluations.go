package state

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

const maxInputs = 64 << 10 // bytes of an evaluation's inputs

// Record stores evaluations; Prune says for how long. It returns them as stored, with
// their ids and the database's time. An evaluation that can't be stored (a number that is
// not finite, inputs that are not JSON or above 64 KiB) is an error, and none is stored
// then.
func (s *Store) Record(ctx context.Context, migration string, all []phases.Evaluation) ([]phases.Evaluation, error) {
	if len(all) == 0 {
		return nil, nil
	}
	kept := slices.Clone(all)
	b := &pgx.Batch{}
	for i := range kept {
		e := &kept[i]
		if err := storable(e); err != nil {
			return nil, fmt.Errorf("the evaluation of %s %q can't be kept: %w", e.Kind, e.Name, err)
		}
		b.Queue(`INSERT INTO migrator.evaluations (migration, kind, name, at, epoch, config_hash, verdict, detail, try, due,
				dry_run, samples, value, bound, threshold, inputs)
			VALUES ($1, $2, $3, clock_timestamp(), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::jsonb) RETURNING id, at`,
			migration, string(e.Kind), e.Name, e.Epoch, e.ConfigHash, string(e.Verdict), e.Detail, storedHint(e.Hint), orNull(e.Due),
			e.DryRun, e.Samples, e.Value, e.Bound, e.Limit, orNoText(e.Inputs)).
			QueryRow(func(row pgx.Row) error { return row.Scan(&e.ID, &e.At) })
	}
	// The batch is one transaction.
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, statedb.Explain(err)
	}
	return kept, nil
}

// storable converts texts and inputs to what PostgreSQL accepts, also later in the history.
func storable(e *phases.Evaluation) error {
	for _, f := range []float64{e.Value, e.Bound, e.Limit} {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("one of its numbers is %v", f)
		}
	}
	e.Detail, e.Hint.Text = statedb.CleanText(e.Detail), statedb.CleanText(e.Hint.Text)
	if len(e.Inputs) == 0 {
		return nil
	}
	// Decoding replaces lone surrogates, which jsonb refuses, as it refuses NUL.
	d := json.NewDecoder(bytes.NewReader(e.Inputs))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("its inputs are no JSON: %w", err)
	}
	inputs, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(inputs) > maxInputs {
		return fmt.Errorf("its inputs have %d bytes: want %d at most", len(inputs), maxInputs)
	}
	e.Inputs = statedb.NoNUL(inputs)
	return nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orNoText(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	s := string(b)
	return &s
}

// EvaluationFilter selects stored evaluations. Zero fields select all.
type EvaluationFilter struct {
	Kind  phases.Kind
	Name  string
	Since time.Time // made at this moment or later
	At    time.Time // made at this moment or before
	Limit int       // of the newest; 0: 100
	// Newest selects only the newest of each gate and trigger, by name: what was known at a
	// moment. Limit is then ignored.
	Newest bool
}

const evaluationColumns = `e.id, e.kind, e.name, e.at, e.epoch, e.config_hash, e.verdict, e.detail, e.try, e.due, e.dry_run,
	e.samples, e.value, e.bound, e.threshold, coalesce(e.inputs::text, '')`

// storedHint is the text of the column try: empty, or the hint's JSON.
func storedHint(h hint.Hint) string {
	if h.IsZero() {
		return ""
	}
	text, _ := json.Marshal(h) // strings only: it can't fail
	return string(text)
}

// hintFrom reads the column try. Releases before hints had codes stored a sentence
// there, which never began with a brace.
func hintFrom(stored string) (h hint.Hint) {
	if json.Unmarshal([]byte(stored), &h) != nil {
		return hint.Hint{Text: stored}
	}
	return h
}

func scanEvaluation(row pgx.CollectableRow) (e phases.Evaluation, err error) {
	var due *time.Time
	var remedy, inputs string
	err = row.Scan(&e.ID, &e.Kind, &e.Name, &e.At, &e.Epoch, &e.ConfigHash, &e.Verdict, &e.Detail, &remedy, &due, &e.DryRun,
		&e.Samples, &e.Value, &e.Bound, &e.Limit, &inputs)
	e.Due, e.Hint = statedb.OrZero(due), hintFrom(remedy)
	if inputs != "" {
		e.Inputs = json.RawMessage(inputs)
	}
	return e, err
}

// Evaluations returns stored evaluations, newest first. The error wraps
// ErrUnknownMigration if there is no such migration.
func (s *Store) Evaluations(ctx context.Context, migration string, f EvaluationFilter) ([]phases.Evaluation, error) {
	found, err := evaluations(ctx, s.pool, migration, f)
	if err == nil && len(found) == 0 {
		_, err = s.Status(ctx, migration)
	}
	return found, statedb.Explain(err)
}

// ClosedSince returns when a gate was first evaluated after its last pass; the given moment if it has not
// passed since that.
func (s *Store) ClosedSince(ctx context.Context, migration, gate string, route time.Time) (since time.Time, err error) {
	err = s.pool.QueryRow(ctx, `WITH open AS (SELECT max(at) AS at FROM migrator.evaluations WHERE migration = $1 AND kind = 'gate' AND name = $2 AND at >= $3 AND verdict = 'pass')
		SELECT coalesce((SELECT min(e.at) FROM migrator.evaluations e, open WHERE e.migration = $1 AND e.kind = 'gate' AND e.name = $2 AND e.at > open.at), $3)`,
		migration, gate, route).Scan(&since)
	return since, statedb.Explain(err)
}

// VerdictSince returns since when each of the evaluations has its verdict: when the first one with it was made after the last
// one with another. Of those that have had it for longer than evaluations are kept, it is the oldest one.
func (s *Store) VerdictSince(ctx context.Context, migration string, of []phases.Evaluation) ([]time.Time, error) {
	var ids []int64
	for _, e := range of {
		ids = append(ids, e.ID)
	}
	rows, err := s.pool.Query(ctx, `SELECT coalesce((SELECT min(e.at) FROM migrator.evaluations e WHERE e.migration = n.migration AND e.kind = n.kind AND e.name = n.name
				AND e.at > (SELECT max(o.at) FROM migrator.evaluations o
					WHERE o.migration = n.migration AND o.kind = n.kind AND o.name = n.name AND o.at < n.at AND o.verdict <> n.verdict)),
			(SELECT min(e.at) FROM migrator.evaluations e WHERE e.migration = n.migration AND e.kind = n.kind AND e.name = n.name))
		FROM unnest($2::bigint[]) WITH ORDINALITY AS given (id, place) JOIN migrator.evaluations n USING (id)
		WHERE n.migration = $1 ORDER BY place`, migration, ids)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	since, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err == nil && len(since) != len(of) {
		err = fmt.Errorf("%d of %d evaluations of %s are not kept any more", len(of)-len(since), len(of), migration)
	}
	return since, statedb.Explain(err)
}

// AlertEvaluations returns the newest evaluation of a trigger for each of the alerts' keys that is
// recorded, by key.
func (s *Store) AlertEvaluations(ctx context.Context, migration, trigger string, keys []string) (map[string]phases.Evaluation, error) {
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT ON (e.inputs #>> '{answer,source,key}') `+evaluationColumns+` FROM migrator.evaluations e
		WHERE e.migration = $1 AND e.kind = $2 AND e.name = $3 AND e.inputs #>> '{answer,source,key}' = ANY ($4)
		ORDER BY e.inputs #>> '{answer,source,key}', e.at DESC, e.id DESC`, migration, string(phases.TriggerKind), trigger, keys)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	found, err := pgx.CollectRows(rows, scanEvaluation)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	by := map[string]phases.Evaluation{}
	for _, e := range found {
		var inputs struct {
			Answer struct {
				Source struct {
					Key string `json:"key"`
				} `json:"source"`
			} `json:"answer"`
		}
		if err := json.Unmarshal(e.Inputs, &inputs); err != nil {
			return nil, fmt.Errorf("the inputs of evaluation %d: %w", e.ID, err)
		}
		by[inputs.Answer.Source.Key] = e
	}
	return by, nil
}

// evaluations reads the newest of each gate and trigger by a query of its own: of the
// hundreds of thousands stored in a week, it reads one each.
func evaluations(ctx context.Context, q statedb.Querier, migration string, f EvaluationFilter) ([]phases.Evaluation, error) {
	const within = `e.migration = $1 AND ($2 = '' OR e.kind = $2) AND ($3 = '' OR e.name = $3)
		AND e.at >= coalesce($4::timestamptz, '-infinity') AND e.at <= coalesce($5::timestamptz, 'infinity')`
	args := []any{migration, string(f.Kind), f.Name, orNull(f.Since), orNull(f.At)}
	sql := `SELECT ` + evaluationColumns + ` FROM migrator.evaluations e WHERE ` + within + ` ORDER BY e.at DESC, e.id DESC LIMIT $6`
	switch {
	case f.Newest:
		sql = `WITH RECURSIVE names AS (
				(SELECT kind, name FROM migrator.evaluations WHERE migration = $1 ORDER BY kind, name LIMIT 1)
				UNION ALL
				SELECT next.kind, next.name FROM names n CROSS JOIN LATERAL (SELECT kind, name FROM migrator.evaluations
					WHERE migration = $1 AND (kind, name) > (n.kind, n.name) ORDER BY kind, name LIMIT 1) next)
			SELECT ` + evaluationColumns + ` FROM names n CROSS JOIN LATERAL (SELECT * FROM migrator.evaluations e
				WHERE e.kind = n.kind AND e.name = n.name AND ` + within + ` ORDER BY e.at DESC, e.id DESC LIMIT 1) e
			ORDER BY e.kind, e.name`
	case f.Limit > 0:
		args = append(args, f.Limit)
	default:
		args = append(args, 100)
	}
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEvaluation)
}
