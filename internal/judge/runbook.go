package judge

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// verification is the gate on the age of the rollback runbook's newest verification.
type verification struct {
	Now     time.Time `json:"now"`
	At      time.Time `json:"at,omitzero"` // zero: none under this configuration
	Passed  bool      `json:"passed"`
	Source  string    `json:"source_hash,omitempty"`
	Seconds float64   `json:"within"`
}

func verificationOf(e phases.Snapshot, within phases.Duration) *verification {
	v := &verification{Now: e.Now, Seconds: time.Duration(within).Seconds()}
	if one := e.Runbook; one != nil && one.ConfigHash == e.Status.ConfigHash {
		v.At, v.Passed, v.Source = one.At, one.Passed, one.SourceHash
	}
	return v
}

func (v *verification) evaluate() result {
	f := result{Limit: v.Seconds, Hint: hint.Hint{Do: hint.RunbookVerify, Of: []string{"rollback"}}}
	if v.At.IsZero() {
		f.Verdict, f.Detail = phases.NoData, "the rollback runbook has not been verified on this configuration"
		return f
	}
	age := v.Now.Sub(v.At).Seconds()
	f.Samples, f.Value, f.Bound = 1, age, age
	switch {
	case !v.Passed:
		f.Verdict, f.Detail = phases.Fail, fmt.Sprintf("the verification of the rollback runbook failed %s", at(v.At))
	case age > v.Seconds:
		f.Verdict, f.Detail = phases.Fail, fmt.Sprintf("the rollback runbook was verified %s: longer ago than %s", at(v.At), short(seconds(v.Seconds)))
	default:
		f.Verdict, f.Detail, f.Hint = phases.Pass, fmt.Sprintf("the rollback runbook was verified %s", at(v.At)), hint.Hint{}
	}
	return f
}
