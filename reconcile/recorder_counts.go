package reconcile

import (
	"time"

	"github.com/stranglerfig/migrator/record"
)

// compared reports n records that an unfinished job has compared. They count in the
// run once the job is collected.
func (r *recorder) compared(n int64) {
	r.inFlight.Add(n)
	r.report()
}

// jobEnded subtracts what an ended job has reported.
func (r *recorder) jobEnded(records int64) { r.inFlight.Add(-records) }

// collect counts a finished job's records. Its suspects are counted by suspected.
func (r *recorder) collect(job int, records int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run.Checked += records
	r.collected = append(r.collected, job)
}

// recount drops what was compared of legacy, because all of it is compared again.
// What was found stays found.
func (r *recorder) recount() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run.Checked, r.collected = 0, nil
}

// recheckedJobs notes that the suspects of all collected jobs are rechecked: once that
// is saved, a resumed run does not recheck them.
func (r *recorder) recheckedJobs() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rechecked, r.collected = r.collected, nil
}

func (r *recorder) suspected(n int64) { r.count(func(run *Run) { run.Suspects += n }) }

func (r *recorder) scanned(n int64) { r.count(func(run *Run) { run.Scanned += n }) }

// unresolved counts keys that never agreed, and changed too fast to be confirmed.
func (r *recorder) unresolved(n int64) { r.count(func(run *Run) { run.Unsettled += n }) }

func (r *recorder) repairedJournal(n int64) { r.count(func(run *Run) { run.Journaled = n }) }

func (r *recorder) reads(places int64) { r.count(func(run *Run) { run.Places = places }) }

// refuse records why the run repairs no difference; "": it repairs.
func (r *recorder) refuse(why string) { r.count(func(run *Run) { run.Refused = why }) }

// young counts young records, of which some are suspects. Those with a difference
// that the slice has confirmed already differ among the young records, too.
func (r *recorder) young(records int, suspects []record.Key) {
	known := int64(0)
	for _, k := range suspects {
		if r.isConfirmed(k) {
			known++
		}
	}
	r.count(func(run *Run) {
		run.Recent += int64(records)
		run.RecentDifferent += known
	})
}

// youngOnly counts the differences beyond the slice's as those of young records.
func (r *recorder) youngOnly(slice int64) {
	r.count(func(run *Run) {
		run.RecentOnly = run.Differences - slice
		run.RecentDifferent += run.RecentOnly
	})
}

// end records how the run ended.
func (r *recorder) end(s Status, why string) {
	r.count(func(run *Run) {
		run.Status, run.Finished = s, time.Now().UTC()
		if why != "" {
			run.Error = why
		}
	})
}

func (r *recorder) count(change func(*Run)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.run)
}

// restore takes over what an interrupted run has found, so that it counts once.
//
// A repairing run rechecks the suspects of all jobs: what had no room among the kept
// findings, and was not repaired, is found and counted again. A run without jobs does
// all of its work again. The target is listed from its beginning: what only the target
// has is found again, but for what is known by its finding; of that there may have
// been more than had room.
func (r *recorder) restore(was Resumed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := &r.run
	run.Checked, run.Suspects, run.Scanned, run.Error = was.Checked, was.Suspects, 0, ""
	run.Recent, run.RecentDifferent, run.RecentOnly, run.Refused = 0, 0, 0, ""
	again := was.Jobs == 0 || run.Repair
	if again {
		run.Differences, run.Classes = run.Repaired, map[Class]int64{}
	}
	listed := !again && run.TwoWay && !was.Terms.Spans
	if listed {
		run.Differences -= run.Classes[Extra] + run.Classes[EqualKey]
		delete(run.Classes, Extra)
		delete(run.Classes, EqualKey)
	}
	r.findings = was.Findings
	for i := range r.findings {
		f := &r.findings[i]
		if again || listed && (f.Class == Extra || f.Class == EqualKey) {
			run.Classes[f.Class]++
			if !f.Repaired {
				run.Differences++
			}
		}
		r.kept[f.Class]++
		if f.RawKey != "" {
			r.unknown[r.hash(f.RawKey)] = struct{}{}
		} else {
			r.confirmed[r.hash(string(f.Key))] = struct{}{}
		}
	}
}
