package phases

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
)

// ColumnsSeenWithin is the greatest age of the look at the stores' columns that a step forward rests on.
const ColumnsSeenWithin = time.Minute

// ColumnHint is the remedy of a column that is not as it was applied.
func ColumnHint(c Column) hint.Hint {
	switch {
	case c.Side == "legacy" && c.Change == "added":
		return hint.Hint{Do: hint.AddField, Of: []string{c.Column}, Text: "in shadow-write or dual-read; in legacy a plain apply; or name it in exclude"}
	case !c.Broken:
		return hint.Hint{Text: "make sure that the application's code expects it"}
	case c.Change == "key":
		return hint.Hint{Text: "restore the key's unique index and NOT NULL"}
	case c.Side == "legacy" && c.Change == "dropped":
		return hint.Hint{Do: hint.DropField, Of: []string{c.Column}, Text: "in shadow-write or dual-read; in legacy a plain apply"}
	default:
		return hint.Hint{Do: hint.ReconcileFull, Text: "once the change is undone; or have the table applied as it is: docs/operating.md, columns that change"}
	}
}

// gateColumns is an interlock where a moved column is not what was applied: no evidence is about
// what is moved then.
func gateColumns(to Route, e Snapshot) GateResult {
	st := e.Status
	g := GateResult{Gate: "columns-applied", Interlock: true, Verdict: Pass, Detail: "the stores' columns are as they were applied"}
	notMoved := 0
	for _, c := range st.Columns {
		if !c.Broken {
			notMoved++
			g.Detail = c.Side + ": " + c.Detail
			continue
		}
		// [columns-watched]: whatever was compared before.
		g.Verdict, g.Detail, g.Hint = Fail, c.Side+": "+c.Detail, ColumnHint(c)
		return g
	}
	if notMoved > 1 {
		g.Detail = fmt.Sprintf("%s; and %d more changes", g.Detail, notMoved-1)
	}
	switch age := e.Now.Sub(st.ColumnsSeen); {
	case st.ColumnsSeen.IsZero():
		g.Detail = "not looked at yet"
	case age > ColumnsSeenWithin && to.Phase != Complete:
		g.Verdict = NoData
		g.Detail = fmt.Sprintf("the stores' columns were last looked at %s ago, by a daemon or a command with the migration file", Duration(age.Round(time.Second)))
		g.Hint = hint.Hint{Do: hint.Serve, Text: "or a command with the migration file; both look at the columns"}
	}
	return g
}

// gateDescribed is an interlock: every instance moves what is applied. In legacy an instance may join
// whatever it moves, so this gate comes before the first step.
func gateDescribed(e Snapshot) GateResult {
	g := GateResult{Gate: "fleet-described", Interlock: true, Verdict: Pass, Detail: "every instance moves what is applied"}
	if n := len(e.Fleet.Other); n > 0 {
		// [join-described]: beyond legacy it would write other entries than the others.
		g.Verdict = Fail
		g.Detail = fmt.Sprintf("%s (%s) %s something else than what is applied, or %s say what", humanize.Counted(n, "instance"), e.Fleet.Other[0],
			humanize.Either(n, "moves", "move"), humanize.Either(n, "doesn't", "don't"))
		g.Hint = hint.Hint{Do: hint.FleetList, Text: "and restart them with the applied migration file, and a program that knows its columns"}
	}
	return g
}
