package migration

import (
	"regexp"
	"slices"
	"strings"
)

// Rule is when a key of the migration file may change, and what that costs.
type Rule string

// The rules. A test changes each key and compares its rule with Hash and Public.
const (
	// Moves: the key says what is moved, or how late. Instances with the old and the new file would write
	// different records, or later than others wait, so it changes in phase legacy only. Older evidence is void.
	Moves Rule = "moves"
	// Columns: the key names the columns that are moved. It changes in phase legacy, and in
	// shadow-write and dual-read by apply with a flag for each column; in every phase if the same
	// columns are moved with it. Older evidence is void.
	Columns Rule = "columns"
	// Bound: the key may change in any phase. Older evidence is void.
	Bound Rule = "bound"
	// Tuned: the key may change in any phase, and evidence stays.
	Tuned Rule = "tuned"
	// Unstored: the state does not keep the key. Each process reads it from its own file.
	Unstored Rule = "unstored"
)

var listIndex = regexp.MustCompile(`\[[0-9]+\]`)

// RuleOf is the rule of a key, or of a section whose keys have the same one. An index in a list
// makes no difference: gates.custom[0].below and gates.custom.below are alike.
func RuleOf(key string) Rule {
	key = listIndex.ReplaceAllString(key, "")
	within := func(sections ...string) bool {
		return slices.ContainsFunc(sections, func(section string) bool {
			return key == section || strings.HasPrefix(key, section+".")
		})
	}
	switch {
	case within("legacy.url", "legacy.url_file", "legacy.standbys", "target.url", "target.url_file", "prometheus", "webhooks", "runbook"):
		return Unstored
	// Conversions go by as and zone. A write of before may land as late as not_after says, however
	// long ago that was replaced: of an instance that has lost its lease.
	case within("name", "legacy", "target", "compare.as", "compare.zone", "writing.not_after"):
		return Moves
	case within("fields", "exclude"):
		return Columns
	case within("reconcile.pause", "reconcile.rereads", "capture.mode"):
		return Bound
	case within("fleet", "backfill", "capture", "throttle", "reconcile", "compare.show", "phases.dual_read.auto", "phases.cutover.auto", "phases.cutover.shadow", "phases.grace.shadow"):
		return Tuned
	default:
		return Bound
	}
}
