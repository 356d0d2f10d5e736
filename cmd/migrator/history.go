package main

import (
	"time"

	"github.com/stranglerfig/migrator/state"
)

// printHistory prints the newest entry last, as one reads a log.
func (c *cli) printHistory(entries []state.Entry) {
	rows := [][]string{{"AT", "WHO", "WHAT", "FROM", "TO", "EPOCH", "WHY"}}
	for _, e := range entries {
		rows = append(rows, []string{
			e.At.UTC().Format(time.RFC3339), e.Actor, string(e.Cause),
			e.From.String(), e.To.String(), count(e.To.Epoch), orDash(e.Reason),
		})
	}
	c.table(rows)
}
