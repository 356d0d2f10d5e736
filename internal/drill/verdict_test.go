package drill_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestAVerdictIsRecomputed: each report says that it passed.
func TestAVerdictIsRecomputed(t *testing.T) {
	t.Parallel()
	if doubts := clitest.PassedReport().Doubts(); len(doubts) > 0 {
		t.Fatal(doubts)
	}
	for name, c := range map[string]struct {
		change func(*drill.Report)
		want   string
	}{
		"lost writes":            {func(r *drill.Report) { r.Ledger.Lost = 7 }, "7 writes are lost"},
		"stale reads":            {func(r *drill.Report) { r.Ledger.StaleReads = new(int64); *r.Ledger.StaleReads = 1 }, "1 reads stale"},
		"no application":         {func(r *drill.Report) { r.FaultTargets = nil }, "no instance of the application was live"},
		"idle applications":      {func(r *drill.Report) { r.FaultTargets[0].Executed = 0 }, "shop had no operation that it applies to"},
		"its own load alone":     {func(r *drill.Report) { r.FaultTargets[0].About = "the load of migrator drill" }, "no application met"},
		"an empty ledger":        {func(r *drill.Report) { r.Ledger.Records = 0 }, "of 0 records"},
		"no ledger":              {func(r *drill.Report) { r.Ledger = nil }, "no ledger"},
		"production":             {func(r *drill.Report) { r.Environment = "production" }, "made in staging"},
		"no environment":         {func(r *drill.Report) { r.Environment = "" }, "made in staging"},
		"no steps":               {func(r *drill.Report) { r.Steps = nil }, "no steps"},
		"a failed step":          {func(r *drill.Report) { r.Steps[0].OK = false }, "failed"},
		"a step before it began": {func(r *drill.Report) { r.Steps[0].Began = r.Began.Add(-time.Second) }, "not within"},
		"an unknown fault":       {func(r *drill.Report) { r.Fault.Kind = "rain" }, "no kind"},
		"a fault of nothing":     {func(r *drill.Report) { r.Fault.Executed = 0 }, "no operation"},
		"a fault after the end":  {func(r *drill.Report) { r.Fault.Injected = r.Finished.Add(time.Hour) }, "not within"},
		"a fault that stays":     {func(r *drill.Report) { r.Fault.Lifted = time.Time{} }, "end of the fault"},
		"an end before it began": {func(r *drill.Report) { r.Finished = r.Began.Add(-time.Second) }, "finished at"},
		"no times":               {func(r *drill.Report) { r.Began, r.Finished = time.Time{}, time.Time{} }, "finished at"},
		"nothing fired":          {func(r *drill.Report) { r.Fired = nil }, "rolled back by itself"},
		"a person rolled back":   {func(r *drill.Report) { r.Fired.Cause = "rollback" }, "rolled back by itself"},
		"longer than it took":    {func(r *drill.Report) { r.Times.Total = 1e6 }, "can't be"},
		"no load":                {func(r *drill.Report) { r.Load = nil }, "no write"},
		"no controls":            {func(r *drill.Report) { r.Controls = nil }, "controls"},
		"a control not found":    {func(r *drill.Report) { r.Controls.PlantedFound = 0 }, "controls"},
		"no reconcile after":     {func(r *drill.Report) { r.Reconciles = r.Reconciles[:1] }, "stores equal"},
		"differences after":      {func(r *drill.Report) { r.Reconciles[1].Differences = 3 }, "stores equal"},
		"reasons":                {func(r *drill.Report) { r.Reasons = []string{"it rained"} }, "it rained"},
	} {
		r := clitest.PassedReport()
		c.change(&r)
		if got := strings.Join(r.Doubts(), "; "); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// Nothing but the flag.
	var r drill.Report
	if err := json.Unmarshal([]byte(`{"passed": true}`), &r); err != nil || len(r.Doubts()) < 8 {
		t.Errorf("%v, %v", r.Doubts(), err)
	}
}
