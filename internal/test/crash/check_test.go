//go:build unix

package crash

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

const (
	lapsedSQL = `SELECT min(instance) FROM migrator.leases WHERE ended_at IS NULL AND expires_at <= clock_timestamp()`
	leasesSQL = `SELECT count(*)::text FROM migrator.leases WHERE ended_at IS NULL OR ended_at > clock_timestamp()`
	fenceSQL  = `SELECT attempt FROM migrator_legacy.migration WHERE name = 'customers'`

	tombstonesSQL = `SELECT count(*)::text FROM migrator_target.customers`
)

// filled replaces the placeholders of the line.
func (p *place) filled(line string) string {
	if strings.Contains(line, "{attempt}") {
		line = strings.ReplaceAll(line, "{attempt}", p.text(fenceSQL))
	}
	if strings.Contains(line, "{lapsed}") {
		line = strings.ReplaceAll(line, "{lapsed}", p.text(lapsedSQL))
	}
	return line
}

// mustRun runs a command line that must succeed.
func (p *place) mustRun(line string) {
	p.t.Helper()
	if code := p.run(line); code != 0 {
		p.t.Fatalf("migrator %s exit code %d\n%s", line, code, p.transcript.String())
	}
}

// evict evicts every killed instance as soon as its lease has expired; false: there was none.
func (p *place) evict() bool {
	p.t.Helper()
	some := false
	for p.text(leasesSQL) != "0" {
		some = true
		if !testenv.Reached(p.t.Context(), func() bool { return p.text(lapsedSQL) != "" }) {
			p.t.Fatalf("the lease of a killed process does not expire\n%s", p.transcript.String())
		}
		p.mustRun(p.filled("fleet evict {lapsed} --reason killed"))
	}
	return some
}

// cleanUp does what status recommends to an operator: evict killed instances, and repair what
// they may have missed.
func (r *recovery) cleanUp() {
	r.t.Helper()
	killed := r.evict()
	st := r.status()
	unsure := killed || r.s.app != nil || strings.Contains(r.line, "--repair")
	if st.JournalKeys > 0 || unsure && copied(r.place, st) {
		if code := r.run("reconcile run --full --repair"); code != 0 && code != 8 {
			r.t.Errorf("the repair: exit code %d", code)
		}
	}
}

// copied reports whether the target must have every record of legacy.
func copied(p *place, st phases.Status) bool {
	at := st.Route.Phase.Position()
	return at >= phases.ShadowWrite.Position() && at <= phases.Grace.Position() && p.text(`SELECT count(*)::text FROM migrator.backfills
		WHERE migration = 'customers' AND finished_at IS NOT NULL AND epoch > `+strconv.FormatInt(st.LegacyEpoch, 10)) != "0"
}

// addUnconfirmed adds a write that was not acknowledged.
func (l ledger) addUnconfirmed(line string) {
	var id int64
	var points int
	if n, _ := fmt.Sscanf(line, "put %d %d", &id, &points); n == 2 {
		l.maybe[id] = points
	}
}

// check checks the place against every promise.
func (p *place) check(want phases.Phase) {
	p.t.Helper()
	p.checkState(want)
	fenced := want == phases.Retain
	for _, write := range []string{
		"UPDATE customers SET points = points WHERE id = 20", "BEGIN; DELETE FROM customers WHERE id = 20; ROLLBACK", "BEGIN; TRUNCATE customers; ROLLBACK",
	} {
		err := p.sql(write)
		p.mustSQL("ROLLBACK") // of a transaction that failed
		if refused := err != nil; refused != fenced {
			p.t.Errorf("at %s legacy answers %q with %v", want, write, err)
		} else if refused && !strings.Contains(err.Error(), "MG001") {
			p.t.Errorf("legacy refuses %q, but not as a fence does: %v", write, err)
		}
	}
	p.checkRecords()
	if st := p.status(); copied(p, st) && p.file == "customers.yaml" {
		if code := p.run("reconcile run --full"); code != 0 {
			p.t.Errorf("the stores differ: exit code %d", code)
		}
	}
	if n := p.text(leasesSQL); n != "0" {
		p.t.Errorf("%s leases remain", n)
	}
}

// checkState: phase and fence agree, the journals are empty, the history is complete.
func (p *place) checkState(want phases.Phase) {
	p.t.Helper()
	st := p.status()
	if st.Route.Phase != want {
		p.t.Errorf("the migration is in %s, want %s", st.Route, want)
	}
	fence := p.text(fenceSQL)
	if st.Attempt != fence {
		p.t.Errorf("the state has the attempt %q, and legacy's fence is of %q", st.Attempt, fence)
	}
	if (fence != "") != (want == phases.Retain) {
		p.t.Errorf("at %s legacy's fence is of %q", want, fence)
	}
	if st.JournalKeys != 0 || st.ReturnKeys != 0 && want != phases.Retain {
		p.t.Errorf("%d keys remain in the journal, %d in the return journal", st.JournalKeys, st.ReturnKeys)
	}
	if n, err := p.state().VerifyHistory(p.t.Context(), "customers"); err != nil || n == 0 {
		p.t.Errorf("the history: %d entries, %v", n, err)
	}
}

// checkRecords: an application reads every acknowledged write, and can write.
func (p *place) checkRecords() {
	p.t.Helper()
	a := p.open("", 0)
	defer a.leave()
	var ids []int64
	for id := range int64(60) {
		ids = append(ids, id+1)
	}
	for _, id := range append(ids, 101, 102, 103, 110, 999) {
		want := "none"
		if points, ok := p.ledger.points[id]; ok {
			want = strconv.Itoa(points)
		}
		got := a.must(fmt.Sprintf("get %d", id))
		if points, ok := p.ledger.maybe[id]; ok && got == strconv.Itoa(points) {
			continue
		}
		if got != want {
			p.t.Errorf("customer %d has %s points, want %s", id, got, want)
		}
	}
	a.must("put 900 90")
	a.must("remove 21")
	if got := a.must("get 900") + " " + a.must("get 21"); got != "90 none" {
		p.t.Errorf("the new writes read %s", got)
	}
}
