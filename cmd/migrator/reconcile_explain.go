package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

func newReconcileExplain(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "explain KEY",
		Short: "Show one key in both stores, and why they differ",
		Long: `Reads one key now: both sides field by field with the rule that each is compared
by, versions, expiry, era, the journal, what a repair would do, and what earlier runs
found. Values are shown if the migration file allows it, else their hashes: equal
hashes mean equal values, within one output.

KEY is written as in the findings: the key's columns with commas between them, such
as 42 or eu,42; a comma inside a column is %2C. The quoted form of a report is accepted
too, so a key that itself begins with " must be given quoted. A key that begins with a
dash and no digit follows --.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageTry(try("migrator reconcile explain 42"), "name one key, as in the findings")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			j, err := c.openJob(ctx, true)
			if err != nil {
				return err
			}
			defer j.Close()
			x, err := j.Explain(ctx, readKey(args[0]))
			if err != nil {
				return err
			}
			return c.show(x, func() { c.explanation(x) })
		},
	}
}

// keysLast moves a key such as -5 behind a --, or it would be taken for a flag. No flag begins with
// a digit. Any other key that begins with a dash needs the -- of its own.
func keysLast(args []string) []string {
	at := slices.Index(args, "explain")
	if at < 1 || args[at-1] != "reconcile" || slices.Contains(args, "--") {
		return args
	}
	moved := slices.Clone(args[:at+1])
	var keys []string
	for _, arg := range args[at+1:] {
		if strings.HasPrefix(arg, "-infinity") || len(arg) > 1 && arg[0] == '-' && strings.IndexByte("0123456789", arg[1]) >= 0 {
			keys = append(keys, arg)
		} else {
			moved = append(moved, arg)
		}
	}
	if keys == nil {
		return args
	}
	return append(append(moved, "--"), keys...)
}

// readKey reads a key as findings print it: plain, or quoted.
func readKey(arg string) record.Key {
	if strings.HasPrefix(arg, `"`) {
		if text, err := strconv.Unquote(arg); err == nil {
			return record.Key(text)
		}
	}
	return record.Key(arg)
}

func (c *cli) explanation(x *reconcile.Explanation) {
	line := func(name, format string, args ...any) {
		c.printf("  %-8s "+format+"\n", append([]any{name}, args...)...)
	}
	columns := make([]string, len(x.Columns))
	for i, k := range x.Columns {
		columns[i] = k.Name + " (" + k.Type + ") = " + strconv.Quote(k.Value)
	}
	c.printf("Key %s: %s\n", strconv.Quote(string(x.Key)), strings.Join(columns, ", "))
	line("at", "%s by the target's clock, era %d", x.At.UTC().Format(time.RFC3339), x.Era)
	line("legacy", "%s", sideText(x.Legacy, "all its writes older than "))
	line("target", "%s", sideText(x.Target, "version "))
	switch {
	case x.Same && x.Detail != "":
		line("verdict", "%s", x.Detail)
	case x.Same:
		line("verdict", "%s", c.paint(c.out, green, "the same"))
	default:
		line("verdict", "%s", c.paint(c.out, red, string(x.Class))+written(": "+reconcile.Meaning(x.Class)+"; a run counts it if it lasts"))
		if x.Detail != "" {
			line("", "%s", strconv.QuoteToGraphic(x.Detail))
		}
	}
	if j := x.Journal; j != nil {
		line("journal", "behind since %s, %s changes missing, the highest %s: %s", j.Since.UTC().Format(time.RFC3339), humanize.Count(j.Changes), j.Version, strconv.QuoteToGraphic(j.Reason))
	} else {
		line("journal", "not journaled")
	}
	if x.Same && x.Journal == nil {
		line("repair", "none is due")
	} else {
		line("repair", "would %s", stepMeanings[x.Repair.Step])
	}
	c.printf("\n")
	rows := [][]string{{"FIELD", "TYPE", "COMPARED", "LEGACY", "TARGET", "DIFFERS"}}
	for _, f := range x.Fields {
		name := f.Field
		if f.Target != f.Field {
			name += " -> " + f.Target
		}
		differs := make([]string, len(f.Differences))
		for i, d := range f.Differences {
			differs[i] = d.Path + " (" + string(d.Class) + ")"
		}
		rows = append(rows, []string{name, f.Type, f.Rule, f.InLegacy, f.InTarget, strings.Join(differs, ", ")})
	}
	c.table(rows)
	if len(x.Findings) == 0 {
		c.printf("\nNo finding of an earlier run is kept for this key.\n")
		return
	}
	c.printf("\n")
	rows = [][]string{{"RUN", "BEGAN", "CLASS", "FIELD", "REPAIR"}}
	for _, f := range x.Findings {
		done := f.Repair
		if f.Repaired {
			done = "repaired: " + done
		}
		rows = append(rows, []string{strconv.FormatInt(f.Run, 10), f.Began.Format(time.DateTime), string(f.Class), f.Path, done})
	}
	c.table(rows)
}

func sideText(s reconcile.Side, version string) string {
	text := string(s.Presence)
	if s.Name != "" {
		text += ", stored as " + strconv.Quote(s.Name)
	}
	if !s.Version.IsZero() {
		text += ", " + version + s.Version.String()
	}
	switch {
	case s.Expired:
		text += ", expired " + s.Expires.UTC().Format(time.RFC3339)
	case !s.Expires.IsZero():
		text += ", expires " + s.Expires.UTC().Format(time.RFC3339)
	}
	if s.Detail != "" {
		text += ": " + strconv.QuoteToGraphic(s.Detail)
	}
	return text
}
