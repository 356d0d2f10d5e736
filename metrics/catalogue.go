package metrics

import "github.com/prometheus/client_golang/prometheus"

// Info describes one metric, for documents.
type Info struct {
	Name   string
	Type   string // gauge, counter or histogram
	Labels []string
	Help   string
	Absent string // when the metric has no series; "": while the state database can't be read
}

type metric struct {
	Info
	desc *prometheus.Desc
}

func define(kind, name, help, absent string, labels ...string) *metric {
	name = "migrator_" + name
	return &metric{
		Info: Info{Name: name, Type: kind, Labels: labels, Help: help, Absent: absent},
		desc: prometheus.NewDesc(name, help, labels, nil),
	}
}

// of returns the descriptor with the migration, its first label, fixed: so a registry accepts
// the collectors of two migrations.
func (m *metric) of(migration string) *prometheus.Desc {
	return prometheus.NewDesc(m.Name, m.Help, m.Labels[1:], prometheus.Labels{m.Labels[0]: migration})
}

const (
	gaugeType     = "gauge"
	counterType   = "counter"
	histogramType = "histogram"

	unmeasured = "until one is evaluated"
	unlooked   = "until legacy's counters are looked at, beyond the phase legacy"
	noCapture  = "without a replication slot of change capture"
	notOn      = "where capture.mode is off, and in the phases legacy and complete"
)

// Metrics of the daemon.
var (
	stateUp     = define(gaugeType, "state_up", "1 if the state database could be read at this scrape.", "never")
	leader      = define(gaugeType, "leader", "1 if this process leads the migration, 0 if it is a standby.", "never", "migration")
	phaseInfo   = define(gaugeType, "phase_info", "1 for the phase that the migration is in.", "", "migration", "phase")
	phaseEpoch  = define(gaugeType, "phase_epoch", "The epoch, which increases with every change of route.", "", "migration")
	readPercent = define(gaugeType, "read_percent", "Share of keys that the target answers for, in per cent.", "", "migration")
	fleet       = define(gaugeType, "fleet_instances", "Instances of the application: settled on the present epoch, behind it, or with a lapsed lease. Of these, other: they move something else than what is applied.", "", "migration", "state")

	transitions   = define(counterType, "transitions_total", "Completed changes of route: settled once every instance acknowledged it, superseded if the next one came first.", "until there was one", "migration", "from", "to", "cause", "outcome")
	settleSeconds = define(histogramType, "transition_settle_seconds", "From a change of route until every instance had acknowledged it.", "", "migration")
	lastMove      = define(gaugeType, "transition_last_timestamp_seconds", "When the route was last changed for this cause.", "until it was", "migration", "cause")
	latched       = define(gaugeType, "rollback_latched", "1 while an automatic rollback waits to be acknowledged.", "", "migration")
	rollback      = define(gaugeType, "rollback_class", "1 for the present class of a rollback.", "", "migration", "class")

	columns     = define(gaugeType, "columns_changed", "Columns of the stores that are not as they were applied: broken, so that what is moved is not what was applied, or unmoved.", "", "migration", "state")
	journalKeys = define(gaugeType, "journal_keys", "Keys whose copy in the target is known to be behind.", "", "migration")
	bypassed    = define(gaugeType, "bypass_changes", "Changes of legacy's table that no instance reported, at least: programs write past the application.", unlooked, "migration")
	bypassLast  = define(gaugeType, "bypass_last_timestamp_seconds", "When the last of them were found.", "until there are some", "migration")
	bypassBlind = define(gaugeType, "bypass_blind", "1 while legacy's counters can't be compared with what instances report.", unlooked, "migration")
	unreadable  = define(counterType, "telemetry_unreadable_windows_total", "Windows of telemetry that could not be added up, and were left out.", "", "migration")
	returnKeys  = define(gaugeType, "return_keys", "Keys that a rollback would first replay to legacy.", "", "migration")
	captureLag  = define(gaugeType, "capture_lag_bytes", "WAL of legacy that change capture has not applied yet.", noCapture, "migration")
	captureLate = define(gaugeType, "capture_lag_seconds", "Age of the newest commit that change capture has applied, while there are later ones, or while no process captures.", noCapture, "migration")
	captureWait = define(gaugeType, "capture_lag_rows", "Changes that change capture has read and not applied.", noCapture, "migration")
	captured    = define(counterType, "capture_applied_rows_total", "Rows that change capture has applied since its slot was made.", noCapture, "migration")
	walRetained = define(gaugeType, "capture_wal_held_bytes", "WAL that legacy retains for the replication slot.", noCapture, "migration")
	walLimit    = define(gaugeType, "capture_wal_limit_bytes", "How much of it there may be, before the slot is given up.", noCapture+", and until it is known", "migration")
	captureRuns = define(gaugeType, "capture_running", "1 while a process captures the changes of legacy.", notOn, "migration")
	captureLost = define(gaugeType, "capture_lost", "1 while changes are missing to change capture, which stands until it begins again.", notOn, "migration")

	led         = define(gaugeType, "led", "1 if some daemon leads the migration, 0 if none does: nothing is repaired, and no trigger rolls back.", "", "migration")
	checkResult = define(gaugeType, "check", "1 for the newest result of each check of the servers that the leading daemon repeats every minute: ok, warning, refused or not checked.", "until a daemon has looked", "migration", "check", "result")
	checkWorse  = define(gaugeType, "check_worse", "1 if the check's result is worse than when the migration file was applied.", "until a daemon has looked", "migration", "check")
	checkedLast = define(gaugeType, "checks_last_timestamp_seconds", "When the leading daemon last made these checks.", "until a daemon has looked", "migration")
	waiting     = define(gaugeType, "webhook_messages_waiting", "Messages to webhooks that are not delivered yet.", "", "migration")
	waitingFrom = define(gaugeType, "webhook_oldest_timestamp_seconds", "When the oldest of these messages was written.", "while none waits", "migration")

	jobDone = define(gaugeType, "job_done_ratio", "Share of a long job's work that is done: of a backfill, a reconcile run, its repair, or a return of keys to legacy. An estimate; state is running, paused or interrupted.", "while there is no such job", "migration", "job", "state")
	jobDue  = define(gaugeType, "job_due_timestamp_seconds", "When the job will be done, at its average speed.", "while no such job is running, or its speed is not known", "migration", "job")

	gateVerdict = define(gaugeType, "gate_verdict", "1 for the verdict of a measured gate that status shows, 0 for the others: no data if the newest evaluation is of another epoch or configuration, or too old.", unmeasured, "migration", "gate", "verdict")
	gateBound   = define(gaugeType, "gate_bound_ratio", "How far a measured gate's bound is from its limit: it passes below 1. Upper bound by limit; for a gate that wants more than its limit, limit by value.", unmeasured+"; without enough samples, or with a limit of 0", "migration", "gate")
	gateSamples = define(gaugeType, "gate_samples", "Observations that a measured gate's newest evaluation rested on.", unmeasured, "migration", "gate")
	gateLast    = define(gaugeType, "gate_last_evaluation_timestamp_seconds", "When a measured gate was last evaluated.", unmeasured, "migration", "gate")

	triggerState = define(gaugeType, "trigger_state", "1 for the newest state of a trigger, 0 for the others.", unmeasured, "migration", "trigger", "state")
	triggerLast  = define(gaugeType, "trigger_last_evaluation_timestamp_seconds", "When a trigger was last evaluated.", unmeasured, "migration", "trigger")

	lastClean  = define(gaugeType, "reconcile_last_success_timestamp_seconds", "When the newest reconcile run without a difference finished.", "until one did", "migration")
	reconciled = define(gaugeType, "reconcile_records", "Records of the newest finished reconcile run: checked, and different.", "until one finished", "migration", "result")
	coverage   = define(gaugeType, "reconcile_coverage_ratio", "Share of legacy that clean reconcile runs have checked within reconcile.window, under the present migration file and since the newest run that found differences.", "", "migration")
	lastDrill  = define(gaugeType, "drill_last_success_timestamp_seconds", "When the newest rollback drill passed.", "until one did", "migration")

	daemon = []*metric{
		stateUp, leader, phaseInfo, phaseEpoch, readPercent, fleet, transitions, settleSeconds, lastMove, latched, rollback,
		columns, journalKeys, bypassed, bypassLast, bypassBlind, unreadable, returnKeys, captureLag, captureLate,
		captureWait, captured, walRetained, walLimit, captureRuns, captureLost,
		led, checkResult, checkWorse, checkedLast, waiting, waitingFrom, jobDone, jobDue, gateVerdict, gateBound, gateSamples, gateLast,
		triggerState, triggerLast, lastClean, reconciled, coverage, lastDrill,
	}
)

const unseen = "until there was one"

// Metrics of an application's instance.
var (
	operations = define(counterType, "operations_total", "Attempts on a store, by their role and outcome.", unseen, "migration", "store", "operation", "role", "outcome")
	durations  = define(histogramType, "operation_duration_seconds", "How long attempts on a store took, of a sample of them. Classic and native.", unseen+" that was timed", "migration", "store", "operation", "role", "outcome")
	added      = define(histogramType, "write_added_seconds", "How long a write's caller waited after the commit in legacy, of a sample. Classic and native.", unseen+" that was timed", "migration")
	compared   = define(counterType, "compare_total", "Comparisons of shadow reads, by their result: mismatch and lost are confirmed ones.", "never", "migration", "result")
	breakers   = define(gaugeType, "breaker_state", "1 for the state of each circuit breaker, 0 for the others: closed, open, half-open (the next operation probes).", "never", "migration", "breaker", "state")

	application = []*metric{operations, durations, added, compared, breakers}
)

// Metrics of a worker.
var (
	workerRunning = define(gaugeType, "worker_jobs_under_way", "Jobs of reconcile runs that this worker runs now.", "never", "migration")
	workerJobs    = define(counterType, "worker_jobs_total", "Jobs that this worker has ended, by their result: done, or failed (another worker may retry it).", "never", "migration", "result")
	workerRecords = define(counterType, "worker_records_total", "Records that this worker has compared in completed jobs.", "never", "migration")

	worker = []*metric{workerRunning, workerJobs, workerRecords}
)

// Daemon returns the metrics of a Collector.
func Daemon() []Info { return infos(daemon) }

// Application returns the metrics of NewInstance's collector.
func Application() []Info { return infos(application) }

// WorkerInfos returns the metrics of a Worker.
func WorkerInfos() []Info { return infos(worker) }

func infos(all []*metric) (found []Info) {
	for _, m := range all {
		found = append(found, m.Info)
	}
	return found
}

func describe(all []*metric, out chan<- *prometheus.Desc) {
	for _, m := range all {
		out <- m.desc
	}
}
