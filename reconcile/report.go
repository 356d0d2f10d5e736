package reconcile

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/oneline"
)

// WriteReport writes a run and its findings as plain text for a person, and the
// coverage if it is known.
func WriteReport(w io.Writer, run Run, coverage *Coverage, found []Finding) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Reconcile run %d, %s, epoch %d, %s\n", run.ID, scope(run), run.Epoch, run.Status)
	line := func(name string, n int64, about string) {
		fmt.Fprintf(&b, "  %-10s %12s  %s\n", name, grouped(n), about)
	}
	line("checked", run.Checked, "records of legacy, each against the target's copy")
	if run.TwoWay {
		line("scanned", run.Scanned, "entries of the target, for records that legacy lacks")
	}
	if run.Recent > 0 {
		line("young", run.Recent, "recently changed records, compared in addition")
	}
	line("suspects", run.Suspects, "differed in the first comparison")
	line("different", run.Differences, "still different after the recheck: confirmed")
	classes := make([]Class, 0, len(run.Classes))
	for c, n := range run.Classes {
		if n > 0 {
			classes = append(classes, c)
		}
	}
	slices.SortFunc(classes, func(a, b Class) int {
		return cmp.Or(cmp.Compare(run.Classes[b], run.Classes[a]), cmp.Compare(a, b))
	})
	for _, c := range classes {
		line("  "+string(c), run.Classes[c], meanings[c])
	}
	if run.Repair {
		line("repaired", run.Repaired, "of these, and read again; only a later run can be clean")
	}
	if run.Journaled > 0 {
		line("journal", run.Journaled, "journaled keys were repaired first; only a later run can be clean")
	}
	if run.Unsettled > 0 {
		line("unsettled", run.Unsettled, "changed at every read; they have no result")
	}
	if !run.Finished.IsZero() && !run.Began.IsZero() {
		took := run.Finished.Sub(run.Began)
		fmt.Fprintf(&b, "  took       %12s\n", took.Round(max(time.Millisecond, took/1000)))
	}
	if run.Error != "" {
		fmt.Fprintf(&b, "Stopped: %s\n", oneline.Escape(run.Error))
	}
	if run.Refused != "" {
		fmt.Fprintf(&b, "Nothing was repaired: %s\n", oneline.Escape(run.Refused))
	}
	if run.Forced != "" && run.Repair {
		fmt.Fprintf(&b, "Repaired without a limit on differences: %s\n", oneline.Escape(run.Forced))
	}
	fmt.Fprintf(&b, "May be claimed: %s\n", Claim(run))
	if coverage != nil {
		fmt.Fprintf(&b, "Coverage: %s\n", coverage)
	}
	if len(found) > 0 {
		b.WriteString("\n")
		for i := range found {
			writeFinding(&b, &found[i])
		}
		if more := run.Differences - int64(len(found)); more > 0 {
			fmt.Fprintf(&b, "... and %s more, which were counted but not kept\n", grouped(more))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Meaning describes a class.
func Meaning(c Class) string { return meanings[c] }

var meanings = map[Class]string{
	Missing: "legacy has the record, the target has not", Extra: "the target has the record, legacy has not",
	Stale: "the target holds an older state", Ahead: "the target's version is newer than legacy ever gave",
	FieldDiff: "fields differ", Encoding: "the texts' encoding differs, or the entry can't be read",
	Expiry: "expires at another time", Type: "the key holds a value of another type",
	ForeignClass: "the key holds a value that migrator did not write",
	EqualKey:     "legacy has the record under another text of an equal key",
}

func scope(run Run) string {
	s := "full"
	if !run.Full {
		s = fmt.Sprintf("sampled by blocks (slice %d of %d)", run.Slice+1, run.Slices)
	}
	if run.TwoWay {
		s += ", both ways"
	}
	if run.Repair {
		s += ", with repair"
	}
	return s
}

func writeFinding(b *strings.Builder, f *Finding) {
	name := strconv.Quote(string(f.Key))
	if f.RawKey != "" {
		name = "no key, stored as " + strconv.Quote(f.RawKey)
	}
	fmt.Fprintf(b, "%-8s %s", f.Class, name)
	if f.Path != "" {
		fmt.Fprintf(b, "  %s", oneline.Escape(f.Path))
	}
	if n := len(f.Paths) - 1; n > 0 {
		fmt.Fprintf(b, " and %d more", n)
	}
	if f.Detail != "" {
		fmt.Fprintf(b, "  %s", oneline.Escape(f.Detail))
	}
	if f.Repaired {
		fmt.Fprintf(b, "  repaired: %s", oneline.Escape(f.Repair))
	} else if f.Repair != "" {
		fmt.Fprintf(b, "  %s", oneline.Escape(f.Repair))
	}
	b.WriteByte('\n')
}
