package state

import (
	"strings"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// readable are the tables that a viewer reads, each row of a migration that it has a grant for.
var readable = strings.Fields(`alerts approvals backfills buckets bypass captures checks columns_seen configurations drills epochs evaluations
	fences forgotten history identity incarnations journal leases marks migrations outbox parts reconcile_coverage
	reconcile_findings reconcile_jobs reconcile_runs reconcile_schedule return_journal returns runbook_runs runbook_steps
	runbook_verifications schema_version servers servers_seen unreadable windows`)

// asked are the functions that only read, which queries and policies call.
var asked = strings.Fields(`changed_server() decider(text) granted(text[]) may(text,text) mark_of(text) owns() server()`)

// decided are the verbs of people who decide, and operated those of an operator's process. Each asks
// migrator.require itself.
var (
	decided  = strings.Fields(`acknowledge(text,text,jsonb) approve(text,text,text,text,bigint) pause(text,text,text)`)
	operated = strings.Fields(`accept_missing(text,bigint) allow_set_aside(text) begin_forget(text) begin_return(text,bigint,text)
		change_configuration(text,text,text,text,text,boolean,bigint,bigint,text,text,text,jsonb) clear_journal(text,bytea[],bigint[],timestamptz[])
		close_fields(text) count_unreadable(text,bigint,text) create_migration(text,text,text,text,text,boolean,bigint,bigint,text) doubt_target(text,text)
		empty_return(text,bigint) evict(text,text,text,boolean) finalize_return(text,bigint) find_target(text,text) forget(text,text,jsonb)
		give_up_attempt(text,text,text) inject_fault(text,jsonb,bigint) intend(text,bigint,text) journal_captured(text,bytea[],text[],text[]) leave_aside(text,bigint)
		leave_missing(text,bigint) leave_return(text,bytea[]) lift_fault(text,text) lose_capture(text,text) lose_legacy(text,text) lose_target(text,text,text)
		mark_copied(text,bigint,text,bigint,bytea[]) mark_unclean(text,text) newest_change(text) next_beat(text,text,bigint)
		note(text,text,text,jsonb) note_alerts(text,jsonb,jsonb,boolean) note_bypass(text,timestamptz,migrator.bypass) note_checks(text,jsonb) note_fence(text,text,text,boolean) note_forget_era(text,bigint)
		note_parts(text,jsonb,text) note_return(text,text,jsonb) note_return_rate(text,double) note_server() place_mark(text,text)
		prune(text) prune_findings(text,interval) prune_return(text,integer) raise_beat(text,text,bigint) report_capture(text,jsonb) save_capture(text,jsonb) see_columns(text,text,jsonb)
		see_columns_again(text,text,text,jsonb) see_servers(text,text,text,text) suspect_state(text,text)
		transition(text,bigint,text,integer,text,text,jsonb,text,bigint,bigint,bigint,bigint,boolean,boolean)`)
)

// served are the functions of a server: see Server. person is who calls it: statements of Go ask too.
var served = strings.Fields(`bearers() flagged() person()`)

// grantOwnTokens lets a role make tokens for itself.
const grantOwnTokens = `GRANT EXECUTE ON FUNCTION migrator.create_token(text, bytea, text, bigint, bigint, bigint), migrator.revoke_token(bigint), migrator.list_tokens() TO %s`

// written are the tables of evidence, with the columns that an operator's process writes. Of all others it
// writes none: what they have is decided, and the functions write it.
var written = []struct{ table, verbs string }{
	{"migrations", "UPDATE (lockable)"}, // to lock the row, no more: it must stay true
	{"backfills", "INSERT (migration, epoch, progress, chunks, began_at), UPDATE (progress, chunks, finished_at)"},
	{"buckets", "INSERT, UPDATE, DELETE"},
	{"drills", "INSERT, UPDATE (finished_at, passed, reason, report)"},
	{"evaluations", "INSERT"},
	{"incarnations", "INSERT, UPDATE, DELETE"},
	{"outbox", "INSERT (migration, event, topic, detail), UPDATE (attempts, next_at, delivered_at, failure)"},
	{"reconcile_coverage", "INSERT, DELETE"},
	{"reconcile_findings", "INSERT, DELETE"},
	{"reconcile_jobs", "INSERT, UPDATE, DELETE"},
	{"reconcile_runs", "INSERT, UPDATE (status, checked, scanned, suspects, expected, unsettled, journalled, differences, repaired, classes, error, finished_at, terms, said, said_by, refused, places, recent, recent_different, recent_only)"},
	{"reconcile_schedule", "INSERT, UPDATE (outcome, run, detail, at)"},
	{"runbook_runs", "INSERT, UPDATE (status, finished_at)"},
	{"runbook_steps", "INSERT, UPDATE (outcome, outcome_at, detail, ended_by)"},
	{"runbook_verifications", "INSERT"},
	{"windows", "DELETE"},
}

// peoplesRights are the statements for the kinds of grants that people and the daemon have. An operator's role
// alone has the job queue: it is its library's schema, and a role that writes it can delay work and no more.
func peoplesRights(k Kind) []string {
	all := []string{
		`GRANT USAGE ON SCHEMA migrator TO %s`, grantOwnTokens,
		`GRANT SELECT ON migrator.` + strings.Join(readable, ", migrator.") + ` TO %s`,
	}
	may := asked
	switch k {
	case Decider:
		may = append(may[:len(may):len(may)], decided...)
		all = append(all, `GRANT UPDATE (lockable) ON migrator.migrations TO %s`, `GRANT UPDATE (outcome, outcome_at, detail, ended_by) ON migrator.runbook_steps TO %s`)
	case Server: // it can call what a caller may be allowed to; the functions ask for the grants of the token's role
		may = append(append(append(may[:len(may):len(may)], decided...), operated...), served...)
		all = append(all, `GRANT UPDATE (lockable) ON migrator.migrations TO %s`)
	case Operator:
		may = append(append(may[:len(may):len(may)], decided...), operated...)
		all = append(all, `GRANT SELECT ON migrator.grants TO %s`)
		for _, w := range written {
			all = append(all, `GRANT `+w.verbs+` ON migrator.`+w.table+` TO %s`)
		}
		all = append(all,
			`GRANT USAGE ON SCHEMA `+statedb.QueueSchema+` TO %s`,
			`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA `+statedb.QueueSchema+` TO %s`,
			`GRANT USAGE ON ALL SEQUENCES IN SCHEMA `+statedb.QueueSchema+` TO %s`,
			`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA `+statedb.QueueSchema+` TO %s`,
		)
	}
	for _, f := range may {
		all = append(all, `GRANT EXECUTE ON FUNCTION migrator.`+strings.Replace(f, "double", "double precision", 1)+` TO %s`)
	}
	return all
}
