-- The state database as its migrations leave it: what each table and function is now,
-- whichever migration changed it last. Generated from the catalogue by go generate, and
-- checked by TestSchemaFile; the job queue's own schema is its library's.

CREATE DOMAIN migrator.phase AS text CONSTRAINT phase_check CHECK ((VALUE = ANY (ARRAY['legacy'::text, 'shadow-write'::text, 'dual-read'::text, 'cutover'::text, 'grace'::text, 'retain'::text, 'complete'::text, 'fenced'::text, 'lifting'::text, 'returning'::text])));

CREATE TABLE migrator.alerts (
    migration text NOT NULL,
    trigger text NOT NULL,
    fingerprint text NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    detail text NOT NULL,
    heard_at timestamp with time zone NOT NULL,
    CONSTRAINT alerts_detail_check CHECK ((length(detail) <= 600)),
    CONSTRAINT alerts_fingerprint_check CHECK ((length(fingerprint) <= 64)),
    CONSTRAINT alerts_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT alerts_pkey PRIMARY KEY (migration, trigger, fingerprint),
    CONSTRAINT alerts_trigger_check CHECK ((length(trigger) <= 63))
);

CREATE TABLE migrator.approvals (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    to_phase migrator.phase NOT NULL,
    epoch bigint NOT NULL,
    config_hash text NOT NULL,
    role text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT approvals_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.backfills (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    epoch bigint NOT NULL,
    progress jsonb NOT NULL,
    chunks jsonb NOT NULL,
    began_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    void_at timestamp with time zone,
    actor text DEFAULT ''::text NOT NULL,
    CONSTRAINT backfills_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT backfills_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.buckets (
    migration text NOT NULL,
    began_at timestamp with time zone NOT NULL,
    seconds integer NOT NULL,
    epoch bigint NOT NULL,
    config_hash text NOT NULL,
    instances bytea NOT NULL,
    counts bytea NOT NULL,
    CONSTRAINT buckets_pkey PRIMARY KEY (migration, began_at, seconds, epoch, config_hash),
    CONSTRAINT buckets_seconds_check CHECK ((seconds = ANY (ARRAY[10, 300])))
);

CREATE TABLE migrator.bypass (
    migration text NOT NULL,
    stay bigint NOT NULL,
    epoch bigint NOT NULL,
    began_at timestamp with time zone NOT NULL,
    looked_at timestamp with time zone NOT NULL,
    judged double precision NOT NULL,
    why text NOT NULL,
    counters text NOT NULL,
    samples jsonb NOT NULL,
    discarded bigint NOT NULL,
    "least" bigint NOT NULL,
    most bigint NOT NULL,
    first_at timestamp with time zone,
    last_at timestamp with time zone,
    writers text[] NOT NULL,
    CONSTRAINT bypass_check CHECK ((most >= "least")),
    CONSTRAINT bypass_counters_check CHECK ((length(counters) <= 1000000)),
    CONSTRAINT bypass_judged_check CHECK ((judged >= (0)::double precision)),
    CONSTRAINT bypass_least_check CHECK (("least" >= 0)),
    CONSTRAINT bypass_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT bypass_pkey PRIMARY KEY (migration),
    CONSTRAINT bypass_samples_check CHECK ((jsonb_typeof(samples) = 'array'::text)),
    CONSTRAINT bypass_why_check CHECK ((length(why) <= 500))
);

CREATE TABLE migrator.captures (
    migration text NOT NULL,
    progress jsonb DEFAULT '{}'::jsonb NOT NULL,
    saved_at timestamp with time zone,
    status jsonb DEFAULT '{}'::jsonb NOT NULL,
    reported_at timestamp with time zone,
    lost text DEFAULT ''::text NOT NULL,
    lost_at timestamp with time zone,
    CONSTRAINT captures_lost_check CHECK ((length(lost) <= 500)),
    CONSTRAINT captures_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT captures_pkey PRIMARY KEY (migration),
    CONSTRAINT captures_progress_check CHECK (((jsonb_typeof(progress) = 'object'::text) AND (octet_length((progress)::text) <= 65536))),
    CONSTRAINT captures_status_check CHECK (((jsonb_typeof(status) = 'object'::text) AND (octet_length((status)::text) <= 8192)))
);

CREATE TABLE migrator.checks (
    migration text NOT NULL,
    name text NOT NULL,
    result text NOT NULL,
    applied text NOT NULL,
    config_hash text NOT NULL,
    detail text NOT NULL,
    hint jsonb NOT NULL,
    since timestamp with time zone NOT NULL,
    looked_at timestamp with time zone NOT NULL,
    CONSTRAINT checks_applied_check CHECK ((applied = ANY (ARRAY['ok'::text, 'not checked'::text, 'warning'::text, 'refused'::text]))),
    CONSTRAINT checks_detail_check CHECK ((length(detail) <= 2000)),
    CONSTRAINT checks_hint_check CHECK (((jsonb_typeof(hint) = 'object'::text) AND (length((hint)::text) <= 4000))),
    CONSTRAINT checks_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT checks_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT checks_pkey PRIMARY KEY (migration, name),
    CONSTRAINT checks_result_check CHECK ((result = ANY (ARRAY['ok'::text, 'not checked'::text, 'warning'::text, 'refused'::text])))
);

CREATE TABLE migrator.columns_seen (
    migration text NOT NULL,
    side text NOT NULL,
    changes jsonb NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    CONSTRAINT columns_seen_changes_check CHECK ((jsonb_typeof(changes) = 'array'::text)),
    CONSTRAINT columns_seen_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT columns_seen_pkey PRIMARY KEY (migration, side),
    CONSTRAINT columns_seen_side_check CHECK ((side = ANY (ARRAY['legacy'::text, 'target'::text])))
);

CREATE TABLE migrator.configurations (
    migration text NOT NULL,
    hash text NOT NULL,
    config json NOT NULL,
    config_hash text NOT NULL,
    schema json NOT NULL,
    environment text NOT NULL,
    actor text NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT configurations_pkey PRIMARY KEY (migration, hash)
);

CREATE TABLE migrator.drills (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    environment text NOT NULL,
    config_hash text NOT NULL,
    rehearsal text NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    began_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    passed boolean DEFAULT false NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    report jsonb,
    digest text,
    signer text,
    imported_at timestamp with time zone,
    fault text GENERATED ALWAYS AS ((report #>> '{fault,kind}'::text[])) STORED,
    CONSTRAINT drills_check CHECK (((NOT passed) OR (finished_at IS NOT NULL))),
    CONSTRAINT drills_check1 CHECK ((((digest IS NULL) = (signer IS NULL)) AND ((digest IS NULL) = (imported_at IS NULL)))),
    CONSTRAINT drills_migration_digest_key UNIQUE (migration, digest),
    CONSTRAINT drills_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT drills_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.epochs (
    migration text NOT NULL,
    epoch bigint NOT NULL,
    phase migrator.phase NOT NULL,
    percent integer NOT NULL,
    began_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    witnessed_at timestamp with time zone,
    witness text DEFAULT ''::text NOT NULL,
    CONSTRAINT epochs_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT epochs_pkey PRIMARY KEY (migration, epoch)
);

CREATE TABLE migrator.evaluations (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    at timestamp with time zone NOT NULL,
    epoch bigint NOT NULL,
    config_hash text NOT NULL,
    verdict text NOT NULL,
    detail text NOT NULL,
    try text NOT NULL,
    due timestamp with time zone,
    dry_run boolean NOT NULL,
    samples bigint NOT NULL,
    value double precision NOT NULL,
    bound double precision NOT NULL,
    threshold double precision NOT NULL,
    inputs jsonb,
    actor text DEFAULT SESSION_USER NOT NULL,
    CONSTRAINT evaluations_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'trigger'::text]))),
    CONSTRAINT evaluations_name_check CHECK ((name <> ''::text)),
    CONSTRAINT evaluations_pkey PRIMARY KEY (id),
    CONSTRAINT evaluations_verdict_check CHECK ((verdict = ANY (ARRAY['pass'::text, 'fail'::text, 'inconclusive'::text, 'no data'::text, 'error'::text, 'quiet'::text, 'firing'::text])))
);

CREATE TABLE migrator.fences (
    migration text NOT NULL,
    attempt text NOT NULL,
    mark text NOT NULL,
    lost_at timestamp with time zone,
    CONSTRAINT fences_attempt_check CHECK ((length(attempt) <= 100)),
    CONSTRAINT fences_mark_check CHECK ((length(mark) <= 100)),
    CONSTRAINT fences_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT fences_pkey PRIMARY KEY (migration)
);

CREATE TABLE migrator.forgotten (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    forgotten_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    era bigint NOT NULL,
    last_epoch bigint NOT NULL,
    last_seq bigint NOT NULL,
    last_hash bytea NOT NULL,
    CONSTRAINT forgotten_era_check CHECK (((era >= 0) AND (era <= '4294967295'::bigint))),
    CONSTRAINT forgotten_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.grants (
    role text NOT NULL,
    kind text NOT NULL,
    migration text DEFAULT '*'::text NOT NULL,
    granted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    granted_by text DEFAULT SESSION_USER NOT NULL,
    CONSTRAINT grants_kind_check CHECK ((kind = ANY (ARRAY['application'::text, 'operator'::text, 'decider'::text, 'viewer'::text, 'server'::text]))),
    CONSTRAINT grants_pkey PRIMARY KEY (role, kind, migration)
);

CREATE TABLE migrator.history (
    migration text NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    cause text NOT NULL,
    from_phase migrator.phase NOT NULL,
    from_percent integer NOT NULL,
    from_epoch bigint NOT NULL,
    to_phase migrator.phase NOT NULL,
    to_percent integer NOT NULL,
    to_epoch bigint NOT NULL,
    reason text NOT NULL,
    config_hash text NOT NULL,
    evidence jsonb NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT history_cause_check CHECK ((cause = ANY (ARRAY['created'::text, 'forgotten'::text, 'advance'::text, 'rollback'::text, 'fence'::text, 'failure'::text, 'config'::text, 'evict'::text, 'pause'::text, 'resume'::text, 'approve'::text, 'trigger'::text, 'acknowledge'::text, 'schedule'::text, 'loss'::text, 'table'::text]))),
    CONSTRAINT history_pkey PRIMARY KEY (migration, seq)
);

CREATE TABLE migrator.identity (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    single boolean DEFAULT true NOT NULL,
    CONSTRAINT identity_pkey PRIMARY KEY (single),
    CONSTRAINT identity_single_check CHECK (single)
);

CREATE TABLE migrator.incarnations (
    migration text NOT NULL,
    incarnation text NOT NULL,
    instance text NOT NULL,
    counted int8multirange NOT NULL,
    discarded bigint NOT NULL,
    last_at timestamp with time zone NOT NULL,
    CONSTRAINT incarnations_pkey PRIMARY KEY (migration, incarnation)
);

CREATE TABLE migrator.journal (
    migration text NOT NULL,
    key bytea NOT NULL,
    version text NOT NULL,
    changes bigint NOT NULL,
    reason text NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    CONSTRAINT journal_bounds CHECK (((octet_length(key) <= 8192) AND (octet_length(reason) <= 2000) AND (changes > 0))) NOT VALID,
    CONSTRAINT journal_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT journal_pkey PRIMARY KEY (migration, key),
    CONSTRAINT journal_version_check CHECK ((version ~ '^[0-9a-f]{32}$'::text))
);

CREATE TABLE migrator.leases (
    id text NOT NULL,
    migration text NOT NULL,
    instance text NOT NULL,
    about text NOT NULL,
    acknowledged_epoch bigint NOT NULL,
    joined_at timestamp with time zone NOT NULL,
    renewed_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    ended text,
    lost_at timestamp with time zone,
    origin text,
    fault text,
    fault_executed bigint,
    fault_first_at timestamp with time zone,
    fault_of text,
    moves text,
    role text DEFAULT SESSION_USER,
    CONSTRAINT leases_check CHECK (((ended_at IS NULL) = (ended IS NULL))),
    CONSTRAINT leases_ended_check CHECK ((ended = ANY (ARRAY['left'::text, 'evicted'::text, 'superseded'::text]))),
    CONSTRAINT leases_fault_executed CHECK ((fault_executed >= 0)) NOT VALID,
    CONSTRAINT leases_instance_check CHECK ((instance <> ''::text)),
    CONSTRAINT leases_length CHECK ((expires_at <= (renewed_at + '00:05:00'::interval))) NOT VALID,
    CONSTRAINT leases_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT leases_moves_check CHECK ((length(moves) <= 100)),
    CONSTRAINT leases_pkey PRIMARY KEY (id),
    CONSTRAINT leases_texts CHECK ((((octet_length(id) >= 1) AND (octet_length(id) <= 100)) AND (octet_length(instance) <= 256) AND (octet_length(about) <= 4000) AND (octet_length(fault) <= 256) AND (octet_length(fault_of) <= 256) AND (octet_length(origin) <= 100))) NOT VALID
);

CREATE TABLE migrator.marks (
    migration text NOT NULL,
    incarnation text NOT NULL,
    beat bigint DEFAULT 0 NOT NULL,
    confirmed bigint DEFAULT 0 NOT NULL,
    confirmed_at timestamp with time zone,
    lost_at timestamp with time zone,
    lost text DEFAULT ''::text NOT NULL,
    doubted_at timestamp with time zone,
    CONSTRAINT marks_check CHECK (((confirmed >= 0) AND (confirmed <= beat))),
    CONSTRAINT marks_check1 CHECK (((lost_at IS NULL) = (lost = ''::text))),
    CONSTRAINT marks_incarnation_check CHECK (((length(incarnation) >= 1) AND (length(incarnation) <= 100))),
    CONSTRAINT marks_lost_check CHECK ((length(lost) <= 500)),
    CONSTRAINT marks_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT marks_pkey PRIMARY KEY (migration)
);

CREATE TABLE migrator.migrations (
    name text NOT NULL,
    environment text NOT NULL,
    config json NOT NULL,
    config_hash text NOT NULL,
    schema json NOT NULL,
    reversible boolean NOT NULL,
    lease_ms bigint NOT NULL,
    renew_ms bigint NOT NULL,
    phase migrator.phase NOT NULL,
    percent integer NOT NULL,
    epoch bigint NOT NULL,
    phase_since timestamp with time zone NOT NULL,
    route_since timestamp with time zone NOT NULL,
    paused text DEFAULT ''::text NOT NULL,
    attempt text DEFAULT ''::text NOT NULL,
    history_seq bigint DEFAULT 0 NOT NULL,
    fence_era bigint DEFAULT 0 NOT NULL,
    lockable boolean DEFAULT true NOT NULL,
    reclaimed_at timestamp with time zone,
    return_lost boolean DEFAULT false NOT NULL,
    fault jsonb,
    fault_until timestamp with time zone,
    unclean_at timestamp with time zone,
    unclean_why text DEFAULT ''::text NOT NULL,
    return_accepted bigint DEFAULT 0 NOT NULL,
    first_fence_era bigint DEFAULT 0 NOT NULL,
    return_sets_aside boolean DEFAULT false NOT NULL,
    set_aside bigint DEFAULT 0 NOT NULL,
    moves text DEFAULT ''::text NOT NULL,
    former_moves text DEFAULT ''::text NOT NULL,
    former_schema json,
    fields_epoch bigint DEFAULT 0 NOT NULL,
    forgetting_at timestamp with time zone,
    forgetting_era bigint DEFAULT 0 NOT NULL,
    configuration text NOT NULL,
    CONSTRAINT faults_end CHECK (((fault IS NULL) = (fault_until IS NULL))),
    CONSTRAINT faults_in_staging CHECK (((fault IS NULL) OR (environment = 'staging'::text))),
    CONSTRAINT migrations_check CHECK ((((phase)::text = ANY (ARRAY['dual-read'::text, 'cutover'::text])) = (percent > 0))),
    CONSTRAINT migrations_epoch_check CHECK ((epoch > 0)),
    CONSTRAINT migrations_fence_era_check CHECK (((fence_era >= 0) AND (fence_era <= '4294967295'::bigint))),
    CONSTRAINT migrations_fields_epoch_check CHECK ((fields_epoch >= 0)),
    CONSTRAINT migrations_forgetting_era_check CHECK (((forgetting_era >= 0) AND (forgetting_era <= '4294967295'::bigint))),
    CONSTRAINT migrations_former_moves_check CHECK ((length(former_moves) <= 100)),
    CONSTRAINT migrations_lease_ms_check CHECK ((lease_ms > 0)),
    CONSTRAINT migrations_lockable_check CHECK (lockable),
    CONSTRAINT migrations_moves_check CHECK ((length(moves) <= 100)),
    CONSTRAINT migrations_name_check CHECK ((name ~ '^[a-z0-9_-]{1,63}$'::text)),
    CONSTRAINT migrations_name_configuration_fkey FOREIGN KEY (name, configuration) REFERENCES migrator.configurations(migration, hash),
    CONSTRAINT migrations_percent_check CHECK (((percent >= 0) AND (percent <= 10000))),
    CONSTRAINT migrations_pkey PRIMARY KEY (name),
    CONSTRAINT migrations_renew_ms_check CHECK ((renew_ms > 0)),
    CONSTRAINT migrations_return_accepted_check CHECK ((return_accepted >= 0)),
    CONSTRAINT migrations_set_aside_check CHECK ((set_aside >= 0)),
    CONSTRAINT migrations_unclean_why_check CHECK ((length(unclean_why) <= 500))
);

CREATE TABLE migrator.outbox (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    migration text NOT NULL,
    event text NOT NULL,
    seq bigint,
    topic text,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    delivered_at timestamp with time zone,
    failure text DEFAULT ''::text NOT NULL,
    CONSTRAINT outbox_event_check CHECK ((event = ANY (ARRAY['moved'::text, 'rolled-back'::text, 'overridden'::text, 'acknowledged'::text, 'paused'::text, 'resumed'::text, 'held'::text, 'fired'::text]))),
    CONSTRAINT outbox_migration_seq_key UNIQUE (migration, seq),
    CONSTRAINT outbox_migration_topic_key UNIQUE (migration, topic),
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.parts (
    migration text NOT NULL,
    parts jsonb NOT NULL,
    changed text DEFAULT ''::text NOT NULL,
    changed_at timestamp with time zone,
    CONSTRAINT parts_changed_check CHECK ((length(changed) <= 500)),
    CONSTRAINT parts_check CHECK (((changed_at IS NULL) = (changed = ''::text))),
    CONSTRAINT parts_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT parts_parts_check CHECK ((jsonb_typeof(parts) = 'array'::text)),
    CONSTRAINT parts_pkey PRIMARY KEY (migration)
);

CREATE TABLE migrator.reconcile_coverage (
    run bigint NOT NULL,
    relation text NOT NULL,
    file bigint NOT NULL,
    blocks bigint NOT NULL,
    records bigint NOT NULL,
    covered int8multirange NOT NULL,
    CONSTRAINT reconcile_coverage_pkey PRIMARY KEY (run, relation),
    CONSTRAINT reconcile_coverage_run_fkey FOREIGN KEY (run) REFERENCES migrator.reconcile_runs(id)
);

CREATE TABLE migrator.reconcile_findings (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    run bigint NOT NULL,
    key bytea NOT NULL,
    raw_key bytea NOT NULL,
    class text NOT NULL,
    path text NOT NULL,
    paths text[] NOT NULL,
    detail text NOT NULL,
    version text NOT NULL,
    repaired boolean NOT NULL,
    repair text NOT NULL,
    at timestamp with time zone NOT NULL,
    lost boolean DEFAULT false NOT NULL,
    CONSTRAINT reconcile_findings_pkey PRIMARY KEY (id),
    CONSTRAINT reconcile_findings_run_fkey FOREIGN KEY (run) REFERENCES migrator.reconcile_runs(id)
);

CREATE TABLE migrator.reconcile_jobs (
    run bigint NOT NULL,
    number integer NOT NULL,
    chunks jsonb NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    error text DEFAULT ''::text NOT NULL,
    moved boolean DEFAULT false NOT NULL,
    worker text DEFAULT ''::text NOT NULL,
    beat_at timestamp with time zone,
    checked bigint DEFAULT 0 NOT NULL,
    suspected integer DEFAULT 0 NOT NULL,
    suspects bytea[],
    ahead bytea[],
    names bytea,
    settled boolean DEFAULT false NOT NULL,
    wakeup bigint,
    attempt uuid,
    CONSTRAINT reconcile_jobs_check CHECK (((NOT settled) OR (state = 'done'::text))),
    CONSTRAINT reconcile_jobs_check1 CHECK (((state = 'taken'::text) = (attempt IS NOT NULL))),
    CONSTRAINT reconcile_jobs_pkey PRIMARY KEY (run, number),
    CONSTRAINT reconcile_jobs_run_fkey FOREIGN KEY (run) REFERENCES migrator.reconcile_runs(id) ON DELETE CASCADE,
    CONSTRAINT reconcile_jobs_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'taken'::text, 'done'::text, 'failed'::text])))
);

CREATE TABLE migrator.reconcile_runs (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    epoch bigint NOT NULL,
    config_hash text NOT NULL,
    whole boolean NOT NULL,
    two_way boolean NOT NULL,
    repair boolean NOT NULL,
    slice integer NOT NULL,
    slices integer NOT NULL,
    status text NOT NULL,
    checked bigint DEFAULT 0 NOT NULL,
    scanned bigint DEFAULT 0 NOT NULL,
    suspects bigint DEFAULT 0 NOT NULL,
    expected bigint DEFAULT 0 NOT NULL,
    unsettled bigint DEFAULT 0 NOT NULL,
    journalled bigint DEFAULT 0 NOT NULL,
    differences bigint DEFAULT 0 NOT NULL,
    repaired bigint DEFAULT 0 NOT NULL,
    classes jsonb DEFAULT '{}'::jsonb NOT NULL,
    error text DEFAULT ''::text NOT NULL,
    began_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    terms jsonb DEFAULT '{}'::jsonb NOT NULL,
    said text DEFAULT ''::text NOT NULL,
    said_by text DEFAULT ''::text NOT NULL,
    refused text DEFAULT ''::text NOT NULL,
    forced text DEFAULT ''::text NOT NULL,
    places bigint DEFAULT 0 NOT NULL,
    recent bigint DEFAULT 0 NOT NULL,
    recent_different bigint DEFAULT 0 NOT NULL,
    recent_only bigint DEFAULT 0 NOT NULL,
    actor text DEFAULT ''::text NOT NULL,
    CONSTRAINT reconcile_runs_check CHECK (((status = ANY (ARRAY['running'::text, 'paused'::text])) = (finished_at IS NULL))),
    CONSTRAINT reconcile_runs_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT reconcile_runs_pkey PRIMARY KEY (id),
    CONSTRAINT reconcile_runs_slices_check CHECK ((slices > 0)),
    CONSTRAINT reconcile_runs_status_check CHECK ((status = ANY (ARRAY['running'::text, 'paused'::text, 'done'::text, 'stopped'::text, 'cancelled'::text])))
);

CREATE TABLE migrator.reconcile_schedule (
    migration text NOT NULL,
    kind text NOT NULL,
    expr text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    run bigint,
    detail text DEFAULT ''::text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT reconcile_schedule_kind_check CHECK ((kind = ANY (ARRAY['sampled'::text, 'full'::text]))),
    CONSTRAINT reconcile_schedule_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT reconcile_schedule_outcome_check CHECK ((outcome = ANY (ARRAY['set'::text, 'running'::text, 'done'::text, 'refused'::text, 'failed'::text]))),
    CONSTRAINT reconcile_schedule_pkey PRIMARY KEY (migration, kind, expr, due_at)
);

CREATE TABLE migrator.return_journal (
    migration text NOT NULL,
    key bytea NOT NULL,
    changes bigint NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    CONSTRAINT return_journal_bounds CHECK ((octet_length(key) <= 8192)) NOT VALID,
    CONSTRAINT return_journal_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT return_journal_pkey PRIMARY KEY (migration, key)
);

CREATE TABLE migrator.returns (
    migration text NOT NULL,
    floor bigint DEFAULT 0 NOT NULL,
    copied bigint DEFAULT 0 NOT NULL,
    legacy text DEFAULT ''::text NOT NULL,
    rate double precision DEFAULT 0 NOT NULL,
    total bigint DEFAULT 0 NOT NULL,
    final boolean DEFAULT false NOT NULL,
    CONSTRAINT returns_legacy_check CHECK ((length(legacy) <= 200)),
    CONSTRAINT returns_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT returns_pkey PRIMARY KEY (migration),
    CONSTRAINT returns_rate_check CHECK ((rate >= (0)::double precision))
);

CREATE TABLE migrator.runbook_runs (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    runbook text NOT NULL,
    source_hash text NOT NULL,
    epoch bigint NOT NULL,
    config_hash text NOT NULL,
    status text NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    began_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    uid uuid DEFAULT gen_random_uuid() NOT NULL,
    title text DEFAULT ''::text NOT NULL,
    path text DEFAULT ''::text NOT NULL,
    source text DEFAULT ''::text NOT NULL,
    CONSTRAINT runbook_runs_pkey PRIMARY KEY (id),
    CONSTRAINT runbook_runs_status_check CHECK ((status = ANY (ARRAY['running'::text, 'waiting'::text, 'done'::text, 'failed'::text, 'compensating'::text, 'compensated'::text])))
);

CREATE TABLE migrator.runbook_steps (
    run bigint NOT NULL,
    step text NOT NULL,
    direction text NOT NULL,
    attempt integer NOT NULL,
    kind text NOT NULL,
    intent jsonb NOT NULL,
    intent_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    outcome text,
    detail jsonb,
    outcome_at timestamp with time zone,
    actor text DEFAULT SESSION_USER NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    block text DEFAULT ''::text NOT NULL,
    ended_by text,
    CONSTRAINT runbook_steps_attempt_check CHECK ((attempt > 0)),
    CONSTRAINT runbook_steps_check CHECK (((outcome IS NULL) = (outcome_at IS NULL))),
    CONSTRAINT runbook_steps_direction_check CHECK ((direction = ANY (ARRAY['forward'::text, 'compensate'::text]))),
    CONSTRAINT runbook_steps_kind_check CHECK ((kind = ANY (ARRAY['check'::text, 'action'::text, 'approve'::text, 'wait'::text, 'verify'::text, 'undo'::text, 'correct'::text]))),
    CONSTRAINT runbook_steps_outcome_check CHECK ((outcome = ANY (ARRAY['done'::text, 'failed'::text, 'skipped'::text, 'unknown'::text]))),
    CONSTRAINT runbook_steps_pkey PRIMARY KEY (run, step, direction, attempt),
    CONSTRAINT runbook_steps_run_fkey FOREIGN KEY (run) REFERENCES migrator.runbook_runs(id)
);

CREATE TABLE migrator.runbook_verifications (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    migration text NOT NULL,
    runbook text NOT NULL,
    source_hash text NOT NULL,
    config_hash text NOT NULL,
    passed boolean NOT NULL,
    findings jsonb DEFAULT '[]'::jsonb NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT runbook_verifications_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT runbook_verifications_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.schema_version (
    id integer GENERATED BY DEFAULT AS IDENTITY NOT NULL,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp timestamp without time zone DEFAULT now() NOT NULL,
    CONSTRAINT schema_version_pkey PRIMARY KEY (id)
);

CREATE TABLE migrator.servers (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    server text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT servers_pkey PRIMARY KEY (id),
    CONSTRAINT servers_server_check CHECK ((length(server) <= 100))
);

CREATE TABLE migrator.servers_seen (
    migration text NOT NULL,
    side text NOT NULL,
    seen text NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    CONSTRAINT servers_seen_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT servers_seen_pkey PRIMARY KEY (migration, side),
    CONSTRAINT servers_seen_seen_check CHECK ((length(seen) <= 100000)),
    CONSTRAINT servers_seen_side_check CHECK ((side = ANY (ARRAY['legacy'::text, 'target'::text])))
);

CREATE TABLE migrator.tokens (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    role text NOT NULL,
    hash bytea NOT NULL,
    about text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    replaces bigint,
    revoked_at timestamp with time zone,
    revoked_by text,
    CONSTRAINT tokens_about_check CHECK ((length(about) <= 200)),
    CONSTRAINT tokens_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT tokens_hash_key UNIQUE (hash),
    CONSTRAINT tokens_pkey PRIMARY KEY (id),
    CONSTRAINT tokens_replaces_fkey FOREIGN KEY (replaces) REFERENCES migrator.tokens(id),
    CONSTRAINT tokens_replaces_key UNIQUE (replaces)
);

CREATE TABLE migrator.unreadable (
    migration text NOT NULL,
    windows bigint NOT NULL,
    last_at timestamp with time zone NOT NULL,
    last_why text NOT NULL,
    CONSTRAINT unreadable_last_why_check CHECK ((length(last_why) <= 500)),
    CONSTRAINT unreadable_migration_fkey FOREIGN KEY (migration) REFERENCES migrator.migrations(name),
    CONSTRAINT unreadable_pkey PRIMARY KEY (migration),
    CONSTRAINT unreadable_windows_check CHECK ((windows > 0))
);

CREATE TABLE migrator.windows (
    migration text NOT NULL,
    incarnation text NOT NULL,
    sequence bigint NOT NULL,
    instance text NOT NULL,
    epoch bigint NOT NULL,
    config_hash text NOT NULL,
    began_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    discarded bigint NOT NULL,
    counts bytea NOT NULL,
    CONSTRAINT windows_bounds CHECK ((((sequence >= 0) AND (sequence <= '4611686018427387903'::bigint)) AND (epoch > 0) AND ((discarded >= 0) AND (discarded <= '1000000000000'::bigint)) AND isfinite(began_at) AND isfinite(ended_at) AND (octet_length(incarnation) <= 256) AND (octet_length(instance) <= 256) AND (octet_length(config_hash) <= 256))) NOT VALID,
    CONSTRAINT windows_check CHECK ((began_at <= ended_at)),
    CONSTRAINT windows_counts_check CHECK ((octet_length(counts) <= 1100000)),
    CONSTRAINT windows_incarnation_check CHECK ((incarnation <> ''::text)),
    CONSTRAINT windows_pkey PRIMARY KEY (migration, incarnation, sequence)
);

CREATE INDEX approvals_migration_epoch_idx ON migrator.approvals USING btree (migration, epoch);

CREATE INDEX backfills_migration_id_idx ON migrator.backfills USING btree (migration, id);

CREATE INDEX configurations_migration_config_hash_idx ON migrator.configurations USING btree (migration, config_hash);

CREATE INDEX drills_migration_finished_at_idx ON migrator.drills USING btree (migration, finished_at DESC) WHERE passed;

CREATE INDEX epochs_migration_epoch_idx ON migrator.epochs USING btree (migration, epoch DESC) WHERE ((phase)::text = 'legacy'::text);

CREATE INDEX evaluations_migration_kind_name_at_id_idx ON migrator.evaluations USING btree (migration, kind, name, at, id);

CREATE INDEX history_migration_seq_idx ON migrator.history USING btree (migration, seq) WHERE (cause = ANY (ARRAY['trigger'::text, 'acknowledge'::text]));

CREATE INDEX leases_migration_ended_at_idx ON migrator.leases USING btree (migration, ended_at);

CREATE INDEX leases_migration_lost_at_idx ON migrator.leases USING btree (migration, lost_at) WHERE (lost_at IS NOT NULL);

CREATE INDEX outbox_migration_next_at_idx ON migrator.outbox USING btree (migration, next_at) WHERE (delivered_at IS NULL);

CREATE INDEX reconcile_findings_key_run_idx ON migrator.reconcile_findings USING btree (key, run);

CREATE INDEX reconcile_findings_run_id_idx ON migrator.reconcile_findings USING btree (run, id);

CREATE INDEX reconcile_runs_migration_id_idx ON migrator.reconcile_runs USING btree (migration, id);

CREATE INDEX return_journal_changes ON migrator.return_journal USING btree (migration, changes);

CREATE INDEX runbook_runs_migration_id_idx ON migrator.runbook_runs USING btree (migration, id);

CREATE INDEX runbook_verifications_migration_runbook_id_idx ON migrator.runbook_verifications USING btree (migration, runbook, id);

CREATE INDEX windows_migration_ended_at_idx ON migrator.windows USING btree (migration, ended_at);

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.approvals FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER sign BEFORE INSERT ON migrator.approvals FOR EACH ROW EXECUTE FUNCTION migrator.sign_approval();

CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON migrator.backfills FOR EACH ROW EXECUTE FUNCTION migrator.sign_backfill();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.configurations FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON migrator.drills FOR EACH ROW EXECUTE FUNCTION migrator.sign_drill();

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON migrator.evaluations FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER keep BEFORE DELETE ON migrator.evaluations FOR EACH ROW EXECUTE FUNCTION migrator.keep_evaluation();

CREATE TRIGGER sign BEFORE INSERT ON migrator.evaluations FOR EACH ROW EXECUTE FUNCTION migrator.sign_evaluation();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.forgotten FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.history FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER chain BEFORE INSERT ON migrator.history FOR EACH ROW EXECUTE FUNCTION migrator.chain_history();

CREATE TRIGGER check_people BEFORE INSERT ON migrator.history FOR EACH ROW EXECUTE FUNCTION migrator.check_people();

CREATE TRIGGER tell AFTER INSERT ON migrator.history FOR EACH ROW EXECUTE FUNCTION migrator.tell();

CREATE TRIGGER check_lease BEFORE INSERT OR UPDATE OF acknowledged_epoch, moves ON migrator.leases FOR EACH ROW EXECUTE FUNCTION migrator.check_lease();

CREATE TRIGGER refuse_join BEFORE INSERT ON migrator.leases FOR EACH ROW EXECUTE FUNCTION migrator.refuse_join();

CREATE TRIGGER keep_configuration BEFORE INSERT OR UPDATE OF config, config_hash, schema, environment, configuration ON migrator.migrations FOR EACH ROW EXECUTE FUNCTION migrator.keep_configuration();

CREATE TRIGGER keep_epochs_rising BEFORE UPDATE ON migrator.migrations FOR EACH ROW EXECUTE FUNCTION migrator.keep_epochs_rising();

CREATE TRIGGER sign BEFORE UPDATE ON migrator.outbox FOR EACH ROW EXECUTE FUNCTION migrator.sign_delivery();

CREATE TRIGGER wake_sender AFTER INSERT ON migrator.outbox FOR EACH ROW EXECUTE FUNCTION migrator.wake_sender();

CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON migrator.reconcile_runs FOR EACH ROW EXECUTE FUNCTION migrator.sign_run();

CREATE TRIGGER number_change BEFORE INSERT OR UPDATE OF changes ON migrator.return_journal FOR EACH ROW EXECUTE FUNCTION migrator.number_change();

CREATE TRIGGER sign BEFORE INSERT OR DELETE OR UPDATE ON migrator.runbook_runs FOR EACH ROW EXECUTE FUNCTION migrator.sign_runbook_run();

CREATE TRIGGER sign BEFORE INSERT OR DELETE OR UPDATE ON migrator.runbook_steps FOR EACH ROW EXECUTE FUNCTION migrator.sign_runbook_step();

CREATE TRIGGER sign BEFORE INSERT ON migrator.runbook_verifications FOR EACH ROW EXECUTE FUNCTION migrator.sign_verification();

CREATE OR REPLACE FUNCTION migrator.accept_missing(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET return_accepted = records WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lost records are accepted only for a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.acknowledge(of_migration text, why text, of_latch jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require_one(of_migration, 'decider', 'operator');
    PERFORM FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    IF trim(why) = '' THEN
        RAISE EXCEPTION 'an acknowledgement needs a reason' USING ERRCODE = 'invalid_parameter_value';
    ELSIF (SELECT cause FROM migrator.history WHERE migration = of_migration AND cause IN ('trigger', 'acknowledge', 'forgotten') ORDER BY seq DESC LIMIT 1) = 'trigger' THEN
        PERFORM migrator.note_entry(of_migration, 'acknowledge', why, jsonb_build_object('acknowledged', of_latch));
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.allow_set_aside(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET return_sets_aside = true WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'records are set aside only by a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.applied_file(of_migration text)
 RETURNS TABLE(config text, columns text, former_columns text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN QUERY SELECT m.config::text, m.schema::text, m.former_schema::text FROM migrator.migrations m WHERE m.name = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.approve(of_migration text, new_phase text, as_role text, why text, microseconds bigint, OUT actor text, OUT to_phase text, OUT epoch bigint, OUT config_hash text, OUT expires_at timestamp with time zone, OUT reason text)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require_one(of_migration, 'decider', 'operator');
    IF new_phase NOT IN ('legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'retain', 'complete')
       OR microseconds NOT BETWEEN 1 AND 366::bigint * 86400 * 1000000 THEN
        RAISE EXCEPTION 'an approval is of a phase, and ends within a year' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Bound to the present epoch and configuration: an approval opens no later step. The trigger gives
    -- actor, time and role, and refuses who is no member of the role.
    INSERT INTO migrator.approvals AS a (migration, to_phase, epoch, config_hash, role, reason, expires_at)
        SELECT m.name, new_phase, m.epoch, m.config_hash, as_role, left(why, 10000), clock_timestamp() + microseconds * interval '1 microsecond'
        FROM migrator.migrations m WHERE m.name = of_migration FOR UPDATE
        RETURNING a.actor, a.to_phase, a.epoch, a.config_hash, a.expires_at, a.reason
        INTO STRICT approve.actor, approve.to_phase, approve.epoch, approve.config_hash, approve.expires_at, approve.reason;
    PERFORM migrator.note_entry(of_migration, 'approve', why, jsonb_build_object('to', new_phase, 'role', as_role, 'expires', approve.expires_at));
END $function$;

CREATE OR REPLACE FUNCTION migrator.approvers(of_migration text, of_phase text, at_epoch bigint, of_config_hash text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT 'in this epoch, under this configuration, ' || coalesce(string_agg('the approval of ' || of_phase || ' by ' || actor || CASE
            WHEN until <= clock_timestamp() THEN ' expired at ' || to_char(until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            WHEN actor = migrator.person() THEN ' does not count for a step that ' || actor || ' takes'
            ELSE ' is valid' END, ', ' ORDER BY until DESC, actor), 'there is no approval of ' || of_phase)
        FROM (SELECT a.actor, max(a.expires_at) AS until FROM migrator.approvals a
              WHERE a.migration = of_migration AND a.to_phase::text = of_phase AND a.epoch = at_epoch AND a.config_hash = of_config_hash GROUP BY a.actor) given
$function$;

CREATE OR REPLACE FUNCTION migrator.bearer()
 RETURNS migrator.tokens
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
    given text := current_setting('migrator.token', true);
    t     migrator.tokens;
BEGIN
    IF coalesce(given, '') = '' THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role WHERE g.kind = 'server' AND pg_has_role(session_user, r.oid, 'MEMBER'))
       AND NOT pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        RAISE EXCEPTION 'the role % has no grant of the kind server: it acts for no token; try: migrator init --grant-server %', session_user, quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF given !~ '^[0-9a-f]{64}$' THEN
        RAISE EXCEPTION 'the token is not valid; try: a token that migrator token create has printed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT k.* INTO t FROM migrator.tokens k JOIN pg_roles r ON r.rolname = k.role
        WHERE k.hash = sha256(decode(given, 'hex')) AND k.expires_at > clock_timestamp() AND k.revoked_at IS NULL
          -- The owner's rights are not to be had by a token, also where the role became the owner's later.
          AND NOT pg_has_role(r.oid, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the token is not valid: it is unknown, has expired or was revoked; try: migrator token create' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN t;
END $function$;

CREATE OR REPLACE FUNCTION migrator.bearers()
 RETURNS TABLE(id bigint, hash bytea, role text, lives_ms bigint, migrations text[])
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    IF NOT migrator.owns() AND NOT EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
            WHERE g.kind = 'server' AND pg_has_role(session_user, r.oid, 'MEMBER')) THEN
        RAISE EXCEPTION 'the role % has no grant of the kind server; try: migrator init --grant-server %', session_user, quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY SELECT k.id, k.hash, k.role, (extract(epoch FROM k.expires_at - clock_timestamp()) * 1000)::bigint,
            ARRAY(SELECT m.name FROM migrator.migrations m WHERE EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
                WHERE g.kind IN ('viewer', 'operator', 'decider', 'application') AND g.migration IN ('*', m.name) AND pg_has_role(o.oid, r.oid, 'MEMBER')))
        FROM migrator.tokens k JOIN pg_roles o ON o.rolname = k.role WHERE k.expires_at > clock_timestamp() AND k.revoked_at IS NULL
          AND NOT pg_has_role(o.oid, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
END $function$;

CREATE OR REPLACE FUNCTION migrator.begin_forget(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET forgetting_at = coalesce(forgetting_at, clock_timestamp())
    WHERE name = of_migration AND phase IN ('legacy', 'shadow-write', 'complete') AND (attempt = '' OR phase = 'complete')
      AND NOT EXISTS (SELECT FROM migrator.leases WHERE migration = of_migration AND (ended_at IS NULL OR ended_at > clock_timestamp()));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the migration % is in use', of_migration USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.begin_return(of_migration text, at_epoch bigint, to_legacy text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    INSERT INTO migrator.returns AS r (migration, legacy) VALUES (of_migration, to_legacy)
        ON CONFLICT (migration) DO UPDATE SET legacy = to_legacy,
            copied = CASE WHEN r.legacy = to_legacy THEN r.copied ELSE r.floor END;
END $function$;

CREATE OR REPLACE FUNCTION migrator.captured(of_migration text, OUT alone boolean, OUT at timestamp with time zone, OUT caught_up timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    SELECT coalesce(m.config::jsonb #>> '{capture,mode}', '') = 'only', clock_timestamp(),
            CASE WHEN c.lost = '' THEN (c.status ->> 'caught_up_at')::timestamptz END
        INTO alone, at, caught_up
        FROM migrator.migrations m LEFT JOIN migrator.captures c ON c.migration = m.name WHERE m.name = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.chain_history()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    last record;
BEGIN
    PERFORM FROM migrator.migrations WHERE name = NEW.migration FOR UPDATE; -- one entry after the other
    SELECT h.seq, h.hash INTO last FROM migrator.history h
        WHERE h.migration = NEW.migration ORDER BY h.seq DESC LIMIT 1;
    NEW.seq := coalesce(last.seq, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.actor := migrator.person();
    NEW.evidence := migrator.signed(NEW.evidence);
    NEW.prev_hash := coalesce(last.hash, ''::bytea);
    NEW.hash := sha256(NEW.prev_hash
        || migrator.netstring(NEW.migration)
        || migrator.netstring(NEW.seq::text)
        || migrator.netstring(to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || migrator.netstring(NEW.actor)
        || migrator.netstring(NEW.cause)
        || migrator.netstring(NEW.from_phase)
        || migrator.netstring(NEW.from_percent::text)
        || migrator.netstring(NEW.from_epoch::text)
        || migrator.netstring(NEW.to_phase)
        || migrator.netstring(NEW.to_percent::text)
        || migrator.netstring(NEW.to_epoch::text)
        || migrator.netstring(NEW.reason)
        || migrator.netstring(NEW.config_hash)
        || migrator.netstring(NEW.evidence::text));
    UPDATE migrator.migrations SET history_seq = NEW.seq WHERE name = NEW.migration;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.change_configuration(of_name text, of_environment text, of_config text, of_config_hash text, of_schema text, of_reversible boolean, of_lease_ms bigint, of_renew_ms bigint, of_moves text, how text, why text, of_evidence jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE m migrator.migrations;
BEGIN
    PERFORM migrator.require('operator', of_name);
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = of_name FOR UPDATE;
    PERFORM migrator.require_deciders(m, of_config::jsonb);
    IF how IN ('note', 'epoch') AND m.phase <> 'legacy' AND m.moves <> '' AND m.moves <> of_moves THEN
        RAISE EXCEPTION 'what is moved can''t be changed at %', m.phase USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF m.reversible <> of_reversible AND m.phase IN ('fenced', 'lifting', 'returning', 'retain', 'complete') THEN
        RAISE EXCEPTION 'reversible can''t be changed at %', m.phase USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF how <> 'note' AND m.attempt <> '' THEN
        -- [fence-attempt]: the attempt's own steps compare the epoch.
        RAISE EXCEPTION 'a new epoch can''t begin while the attempt % of a fence is recorded', m.attempt USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF how NOT IN ('note', 'epoch', 'columns') THEN
        RAISE EXCEPTION 'unknown way of a change: %', how USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE migrator.migrations SET environment = of_environment, config = of_config::json, config_hash = of_config_hash, schema = of_schema::json,
        reversible = of_reversible, lease_ms = of_lease_ms, renew_ms = of_renew_ms, moves = of_moves,
        former_moves = CASE WHEN phase = 'legacy' THEN '' ELSE former_moves END,
        former_schema = CASE WHEN phase <> 'legacy' THEN former_schema END,
        fault = CASE WHEN of_environment = 'staging' THEN fault END, fault_until = CASE WHEN of_environment = 'staging' THEN fault_until END
        WHERE name = of_name;
    IF m.moves <> of_moves THEN -- what was seen compares with the columns of before
        DELETE FROM migrator.columns_seen WHERE migration = of_name;
    END IF;
    CASE how
        WHEN 'note' THEN PERFORM migrator.note_entry(of_name, 'config', why, of_evidence);
        WHEN 'epoch' THEN PERFORM migrator.move(m.name, m.epoch, m.phase, m.percent, 'config', why, of_evidence, '', 0);
        ELSE PERFORM migrator.change_fields(m.name, m.schema, m.moves, why, of_evidence);
    END CASE;
END $function$;

CREATE OR REPLACE FUNCTION migrator.change_fields(of_migration text, was_schema json, was_moves text, in_reason text, in_evidence jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    m migrator.migrations;
    number bigint;
BEGIN
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    IF m.phase NOT IN ('shadow-write', 'dual-read') THEN
        RAISE EXCEPTION 'the columns of % can''t be changed at %', m.name, m.phase USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    number := migrator.move(m.name, m.epoch, m.phase, m.percent, 'config', in_reason, in_evidence, m.attempt, 0);
    UPDATE migrator.migrations SET former_schema = was_schema, former_moves = was_moves, fields_epoch = number WHERE name = m.name;
    -- [fields-filled]: what was copied lacks the new columns.
    UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = m.name AND finished_at IS NULL AND void_at IS NULL;
    DELETE FROM migrator.columns_seen WHERE migration = m.name;
    RETURN number;
END $function$;

CREATE OR REPLACE FUNCTION migrator.changed_server()
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT coalesce((SELECT s.server || ' before, ' || now.server || ' now'
        FROM (SELECT migrator.server() AS server) now,
             (SELECT server FROM migrator.servers ORDER BY id DESC LIMIT 1) s
        WHERE s.server <> now.server), '')
$function$;

CREATE OR REPLACE FUNCTION migrator.check_lease()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    m record;
BEGIN
    SELECT moves, former_moves, fields_epoch, epoch, phase INTO m FROM migrator.migrations WHERE name = NEW.migration;
    IF NOT FOUND OR m.moves = '' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        NEW.moves := OLD.moves;
    -- [join-described]: beyond legacy an instance writes the target, or reads it.
    ELSIF m.phase <> 'legacy' AND NEW.moves <> m.moves AND (m.former_moves = '' OR NEW.moves <> m.former_moves) THEN
        RAISE EXCEPTION 'instance % moves other records than % does: it says %, applied is %', NEW.instance, NEW.migration,
            CASE WHEN NEW.moves = '' THEN 'nothing' ELSE left(NEW.moves, 12) END, left(m.moves, 12) USING ERRCODE = 'MG013';
    END IF;
    -- [fields-acknowledged]: of the epoch of a change of columns only. A later epoch is a rollback,
    -- which must not wait for a deployment.
    IF m.epoch = m.fields_epoch AND NEW.moves IS DISTINCT FROM m.moves THEN
        NEW.acknowledged_epoch := least(NEW.acknowledged_epoch, m.epoch - 1);
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.check_people()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    way        text[] := ARRAY['legacy', 'shadow-write', 'dual-read', 'cutover', 'grace', 'fenced', 'retain', 'complete'];
    into_phase text := CASE NEW.to_phase WHEN 'fenced' THEN 'retain' ELSE NEW.to_phase::text END;
    approval   jsonb;
    two        boolean;
    closed     text;
    passed     text[]; -- phases that a reclaim passes unseen
BEGIN
    IF jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN
        PERFORM migrator.require_member(migrator.decider(NEW.migration), 'override a gate');
    END IF;
    SELECT config::jsonb #> '{phases,approval}' INTO approval FROM migrator.migrations WHERE name = NEW.migration;
    IF NEW.to_phase = 'returning' AND array_position(way, NEW.from_phase::text) < array_position(way, 'grace') THEN
        -- A reclaim that found legacy's fence: the state recorded less than there was. It ends in grace, by no
        -- step that needed an approval, and only legacy's fence, which the state can't see, is its reason.
        SELECT array_agg(p) INTO passed FROM unnest(way[array_position(way, NEW.from_phase::text) + 1 : array_position(way, 'grace')]) p WHERE (approval -> 'for') ? p;
        IF passed IS NOT NULL THEN
            PERFORM migrator.require_member(migrator.decider(NEW.migration), 'reclaim past phases that need an approval');
        END IF;
        IF (approval -> 'two_people') ?| passed AND NOT EXISTS (SELECT FROM migrator.approvals a
               WHERE a.migration = NEW.migration AND a.to_phase = 'grace' AND a.epoch = NEW.from_epoch
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> migrator.person()) THEN
            RAISE EXCEPTION 'a reclaim past % needs two people: %; try: migrator phase approve --to grace, as another person',
                array_to_string(passed, ', '), migrator.approvers(NEW.migration, 'grace', NEW.from_epoch, NEW.config_hash) USING ERRCODE = 'MG011';
        END IF;
        RETURN NEW;
    END IF;
    -- A return that began in retain may be given up to it. One that a reclaim began elsewhere enters it.
    IF (array_position(way, NEW.to_phase::text) > array_position(way, NEW.from_phase::text)) IS NOT TRUE
       AND NOT (NEW.to_phase = NEW.from_phase AND NEW.to_percent > NEW.from_percent)
       AND NOT (NEW.from_phase = 'returning' AND NEW.to_phase = 'retain' AND 'retain' IS DISTINCT FROM (SELECT h.from_phase FROM migrator.history h
                WHERE h.migration = NEW.migration AND h.to_phase = 'returning' AND h.from_phase <> 'returning' ORDER BY h.seq DESC LIMIT 1)) THEN
        RETURN NEW;
    END IF;
    SELECT g ->> 'gate' INTO closed FROM jsonb_array_elements(CASE jsonb_typeof(NEW.evidence -> 'gates') WHEN 'array' THEN NEW.evidence -> 'gates' END) g
        WHERE coalesce(g ->> 'verdict', '') NOT IN ('pass', 'off') AND (coalesce(trim(g ->> 'overridden'), '') = '' OR g -> 'interlock' = 'true') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the gate % is closed', closed USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NEW.from_phase = NEW.to_phase OR NEW.from_phase = 'fenced' THEN
        RETURN NEW;
    END IF;
    IF NOT coalesce((approval -> 'for') ? into_phase, false) THEN
        RETURN NEW;
    END IF;
    two := coalesce((approval -> 'two_people') ? into_phase, false);
    IF NOT two AND jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.gate == "approved" && @.overridden != "")') THEN
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM migrator.approvals a
               WHERE a.migration = NEW.migration AND a.to_phase = into_phase AND a.epoch = NEW.from_epoch
                 AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND (NOT two OR a.actor <> migrator.person())) THEN
        RETURN NEW;
    ELSIF two THEN
        RAISE EXCEPTION '% needs two people: %; try: migrator phase approve, as another person',
            into_phase, migrator.approvers(NEW.migration, into_phase, NEW.from_epoch, NEW.config_hash) USING ERRCODE = 'MG011';
    END IF;
    RAISE EXCEPTION '% needs an approval: %; try: migrator phase approve',
        into_phase, migrator.approvers(NEW.migration, into_phase, NEW.from_epoch, NEW.config_hash) USING ERRCODE = 'MG010';
END $function$;

CREATE OR REPLACE FUNCTION migrator.clear_journal(of_migration text, keys bytea[], had_changes bigint[], since timestamp with time zone[])
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
DECLARE
    cleared bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- [journal-changes]: compare-and-set on what was read before the repair. In the order in which keys are journalled:
    -- two transactions must not wait for each other.
    WITH repaired AS MATERIALIZED (
        SELECT of_migration AS migration, l.* FROM unnest(keys, had_changes, since) AS l (key, changes, first_at) ORDER BY l.key
    ), gone AS (
        DELETE FROM migrator.journal j USING repaired l
        WHERE j.migration = l.migration AND j.key = l.key AND j.changes = l.changes AND (l.first_at IS NULL OR j.first_at = l.first_at)
        RETURNING 1
    )
    SELECT count(*) INTO cleared FROM gone;
    RETURN cleared;
END $function$;

CREATE OR REPLACE FUNCTION migrator.close_fields(of_migration text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET former_moves = '', former_schema = NULL WHERE name = of_migration AND phase IN ('shadow-write', 'dual-read')
$function$;

CREATE OR REPLACE FUNCTION migrator.conflict_of(of_migration text)
 RETURNS TABLE(phase text, percent integer, epoch bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT r.phase, r.percent, r.epoch FROM migrator.live_routes(of_migration) r
    WHERE r.phase NOT IN ('shadow-write', 'dual-read', 'cutover', 'grace') LIMIT 1
$function$;

CREATE OR REPLACE FUNCTION migrator.count_unreadable(of_migration text, more bigint, why text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    INSERT INTO migrator.unreadable AS u (migration, windows, last_at, last_why) VALUES (of_migration, more, clock_timestamp(), left(why, 500))
    ON CONFLICT (migration) DO UPDATE SET windows = u.windows + excluded.windows, last_at = excluded.last_at, last_why = excluded.last_why;
END $function$;

CREATE OR REPLACE FUNCTION migrator.create_migration(of_name text, of_environment text, of_config text, of_config_hash text, of_schema text, of_reversible boolean, of_lease_ms bigint, of_renew_ms bigint, of_moves text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_name);
    INSERT INTO migrator.migrations (name, environment, config, config_hash, schema, reversible, lease_ms, renew_ms, moves,
            phase, percent, epoch, phase_since, route_since, configuration)
    SELECT of_name, of_environment, of_config::json, of_config_hash, of_schema::json, of_reversible, of_lease_ms, of_renew_ms, of_moves, 'legacy', 0,
        -- [epoch-grows]: above those of a forgotten migration of this name, which its instances may remember.
        1 + coalesce((SELECT max(last_epoch) FROM migrator.forgotten WHERE migration = of_name), 0), clock_timestamp(), clock_timestamp(), ''
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at, settled_at)
        SELECT name, epoch, phase, percent, route_since, route_since FROM migrator.migrations WHERE name = of_name;
    PERFORM migrator.note_entry(of_name, 'created', '', jsonb_build_object('environment', of_environment, 'reversible', of_reversible));
    RETURN true;
END $function$;

CREATE OR REPLACE FUNCTION migrator.create_token(of_role text, of_hash bytea, of_about text, lives_ms bigint, of_replaces bigint, overlap_ms bigint)
 RETURNS TABLE(id bigint, role text, expires_at timestamp with time zone)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
DECLARE
    old  migrator.tokens;
    made migrator.tokens;
BEGIN
    IF of_replaces IS NOT NULL THEN
        SELECT * INTO old FROM migrator.tokens k WHERE k.id = of_replaces AND (migrator.owns() OR k.role = session_user) FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no token %; try: migrator token list', of_replaces USING ERRCODE = 'no_data_found';
        ELSIF EXISTS (SELECT FROM migrator.tokens k WHERE k.replaces = of_replaces) THEN
            RAISE EXCEPTION 'token % was replaced before; try: migrator token list', of_replaces USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF old.revoked_at IS NOT NULL THEN
            RAISE EXCEPTION 'token % was revoked; try: migrator token create', of_replaces USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        of_role := old.role;
    END IF;
    IF coalesce(current_setting('migrator.token', true), '') <> '' OR NOT migrator.owns() AND of_role <> session_user THEN
        RAISE EXCEPTION 'the role % may make a token for itself alone; try: the same as the role that owns the schema', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = of_role) THEN
        RAISE EXCEPTION 'the role "%" does not exist in the state database; try: CREATE ROLE %', of_role, quote_ident(of_role) USING ERRCODE = 'undefined_object';
    ELSIF pg_has_role(of_role::name, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        RAISE EXCEPTION 'the role % has the rights of the schema''s owner, which no token has; try: a role of its own, with migrator init --grant-viewer', of_role
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF (lives_ms BETWEEN 1 AND 366::bigint * 86400000) IS NOT TRUE OR (overlap_ms BETWEEN 0 AND 30::bigint * 86400000) IS NOT TRUE THEN
        RAISE EXCEPTION 'a token lasts up to 366 days, and the one that it replaces up to 30 days beside it' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.tokens (role, hash, about, created_at, created_by, expires_at, replaces)
        VALUES (of_role, of_hash, migrator.one_line(of_about, 200), clock_timestamp(), session_user, clock_timestamp() + lives_ms * interval '1 millisecond', of_replaces)
        RETURNING * INTO made;
    UPDATE migrator.tokens k SET expires_at = least(k.expires_at, clock_timestamp() + overlap_ms * interval '1 millisecond') WHERE k.id = of_replaces;
    PERFORM pg_notify('migrator', '{"tokens":true}');
    RETURN QUERY SELECT made.id, made.role, made.expires_at;
END $function$;

CREATE OR REPLACE FUNCTION migrator.decider(in_migration text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT coalesce(config #>> '{phases,approval,role}', '') FROM migrator.migrations WHERE name = in_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.doubt_target(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.marks SET doubted_at = clock_timestamp() WHERE migration = of_migration;
    SELECT migrator.mark_unclean(of_migration, why)
$function$;

CREATE OR REPLACE FUNCTION migrator.empty_return(of_migration text, at_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    IF EXISTS (SELECT FROM migrator.return_journal j LEFT JOIN migrator.returns r ON r.migration = j.migration
               WHERE j.migration = of_migration AND j.changes > coalesce(greatest(r.floor, r.copied), 0)) THEN
        RAISE EXCEPTION 'legacy lacks keys of the return journal' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE migrator.returns SET floor = last.value, copied = last.value, total = 0
        FROM (SELECT nextval('migrator.return_changes') AS value) AS last WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.enter(of_migration text)
 RETURNS migrator.migrations
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE m migrator.migrations;
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('migrator route ' || of_migration, 0));
    SELECT * INTO m FROM migrator.migrations WHERE name = of_migration FOR SHARE;
    RETURN m;
END $function$;

CREATE OR REPLACE FUNCTION migrator.evict(of_migration text, of_instance text, why text, by_force boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    now_at timestamptz;
    ended  jsonb;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF trim(why) = '' THEN
        RAISE EXCEPTION 'an eviction needs a reason' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    now_at := clock_timestamp();
    -- [unclean-mark]: no process knows what the instance had in flight. [lapsed-blocks]: only a
    -- lapsed lease is evicted, unless by force: an instance that renews would continue without one.
    WITH evicted AS (
        UPDATE migrator.leases l SET ended = 'evicted', ended_at = least(greatest(l.expires_at, now_at), now_at + interval '5 minutes'),
            lost_at = CASE WHEN migrator.lost_writes(l.migration, l.acknowledged_epoch)
                           THEN least(greatest(l.expires_at, now_at), now_at + interval '5 minutes') END
        WHERE migration = of_migration AND instance = of_instance
          AND (ended_at IS NULL OR by_force AND l.ended = 'superseded' AND ended_at > now_at) AND (expires_at <= now_at OR by_force)
        RETURNING jsonb_build_object('lease', id, 'about', about, 'acknowledged_epoch', acknowledged_epoch, 'expired', expires_at,
            'dirty', lost_at IS NOT NULL, 'counts_until', ended_at) AS lease)
    SELECT jsonb_agg(lease) INTO ended FROM evicted;
    IF ended IS NOT NULL THEN
        PERFORM migrator.note_entry(of_migration, 'evict', why, jsonb_build_object('instance', of_instance, 'forced', by_force, 'leases', ended));
    END IF;
    RETURN coalesce(jsonb_array_length(ended), 0);
END $function$;

CREATE OR REPLACE FUNCTION migrator.finalize_return(of_migration text, at_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    UPDATE migrator.returns SET final = true WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.find_target(of_migration text, of_incarnation text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    WITH found AS (UPDATE migrator.marks SET lost_at = NULL, lost = ''
        WHERE migration = of_migration AND incarnation = of_incarnation AND lost_at IS NOT NULL RETURNING true)
    SELECT EXISTS (SELECT FROM found)
$function$;

CREATE OR REPLACE FUNCTION migrator.first_fenced(of_migration text, era bigint)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    UPDATE migrator.migrations SET first_fence_era = era WHERE name = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.flagged()
 RETURNS TABLE(migration text, phase text, percent integer, epoch bigint, shadow text, lease_ms bigint, renew_ms bigint)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    IF NOT migrator.owns() AND NOT EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
            WHERE g.kind = 'server' AND pg_has_role(session_user, r.oid, 'MEMBER')) THEN
        RAISE EXCEPTION 'the role % has no grant of the kind server; try: migrator init --grant-server %', session_user, quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY SELECT m.name, m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), least(m.lease_ms, 300000), m.renew_ms FROM migrator.migrations m ORDER BY m.name;
END $function$;

CREATE OR REPLACE FUNCTION migrator.fleet_migrations()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT name FROM migrator.migrations WHERE migrator.may('application', name) OR migrator.may('operator', name) ORDER BY name
$function$;

CREATE OR REPLACE FUNCTION migrator.fleet_role(of_migration text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    RETURN coalesce((SELECT g.role FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
                     WHERE g.kind = 'application' AND g.migration IN ('*', of_migration) AND pg_has_role(migrator.person(), r.oid, 'MEMBER')
                     ORDER BY g.role <> migrator.person(), g.role LIMIT 1), migrator.person());
END $function$;

CREATE OR REPLACE FUNCTION migrator.forget(of_migration text, why text, removed jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    kept constant text[] := ARRAY['history', 'approvals', 'runbook_runs', 'evaluations', 'forgotten', 'grants', 'configurations', 'reconcile_runs'];
    t    text;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM FROM migrator.migrations WHERE name = of_migration AND forgetting_at IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the migration is not being forgotten' USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF EXISTS (SELECT FROM migrator.leases WHERE migration = of_migration AND (ended_at IS NULL OR ended_at > clock_timestamp())) THEN
        RAISE EXCEPTION 'the migration % is in use', of_migration USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.note_entry(of_migration, 'forgotten', why, removed);
    INSERT INTO migrator.forgotten (migration, era, last_epoch, last_seq, last_hash)
        SELECT h.migration, m.forgetting_era, h.to_epoch, h.seq, h.hash FROM migrator.history h JOIN migrator.migrations m ON m.name = h.migration
        WHERE h.migration = of_migration ORDER BY h.seq DESC LIMIT 1;
    DELETE FROM migrator.reconcile_coverage WHERE run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = of_migration);
    DELETE FROM migrator.reconcile_findings WHERE run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = of_migration);
    DELETE FROM migrator.reconcile_jobs WHERE run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = of_migration);
    DELETE FROM migrator.reconcile_runs WHERE migration = of_migration;
    FOR t IN SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'migration' AND NOT a.attisdropped
             WHERE c.relnamespace = 'migrator'::regnamespace AND c.relkind = 'r' AND c.relname <> ALL (kept) ORDER BY 1 LOOP
        EXECUTE format('DELETE FROM migrator.%I WHERE migration = $1', t) USING of_migration;
    END LOOP;
    DELETE FROM migrator.migrations WHERE name = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.give_up_attempt(of_name text, of_attempt text, why text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_name);
    -- [one-decides]: compare-and-set on phase and attempt: a later attempt's record stays.
    UPDATE migrator.migrations SET attempt = '' WHERE name = of_name AND phase = 'grace' AND attempt = of_attempt AND of_attempt <> '';
    IF FOUND THEN
        PERFORM migrator.note_entry(of_name, 'fence', 'legacy was not fenced: ' || why, jsonb_build_object('attempt', of_attempt));
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.granted(VARIADIC kinds text[])
 RETURNS text[]
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN migrator.owns() OR '*' = ANY (array_agg(g.migration)) THEN '{*}' ELSE coalesce(array_agg(g.migration), '{}') END
    FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE g.kind = ANY (kinds) AND pg_has_role(migrator.person(), r.oid, 'MEMBER')
$function$;

CREATE OR REPLACE FUNCTION migrator.has_journaled(of_migration text, of_key bytea)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN EXISTS (SELECT FROM migrator.journal j WHERE j.migration = of_migration AND j.key = of_key);
END $function$;

CREATE OR REPLACE FUNCTION migrator.hold_return(of_migration text, keys bigint, aside boolean)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    UPDATE migrator.migrations SET return_sets_aside = aside WHERE name = of_migration;
    INSERT INTO migrator.returns (migration, total) VALUES (of_migration, keys) ON CONFLICT (migration) DO UPDATE SET total = keys, final = false
$function$;

CREATE OR REPLACE FUNCTION migrator.holds(of_role text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF of_role IS NULL OR of_role = migrator.person() THEN
        RETURN true;
    END IF;
    RETURN EXISTS (SELECT FROM pg_roles r WHERE r.rolname = of_role AND pg_has_role(migrator.person(), r.oid, 'MEMBER'));
END $function$;

CREATE OR REPLACE FUNCTION migrator.inject_fault(of_migration text, new_fault jsonb, milliseconds bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF num_nulls(new_fault, milliseconds) > 0 OR milliseconds NOT BETWEEN 1 AND 3600000 OR jsonb_typeof(new_fault) <> 'object' OR coalesce(length(new_fault ->> 'id'), 0) NOT BETWEEN 1 AND 256 THEN
        RAISE EXCEPTION 'a fault has an id, and ends by itself within an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE migrator.migrations SET fault = new_fault, fault_until = clock_timestamp() + milliseconds * interval '1 millisecond'
    WHERE name = of_migration AND environment = 'staging' AND (fault IS NULL OR fault_until <= clock_timestamp());
    RETURN FOUND;
END $function$;

CREATE OR REPLACE FUNCTION migrator.intend(of_name text, at_epoch bigint, of_attempt text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_name);
    -- [fence-attempt], [one-decides]: compare-and-set on the epoch and the absence of another attempt.
    UPDATE migrator.migrations SET attempt = of_attempt
    WHERE name = of_name AND epoch = at_epoch AND phase = 'grace' AND attempt = '' AND length(of_attempt) BETWEEN 1 AND 100;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a fence is attempted from grace, by one command at a time' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.note_entry(of_name, 'fence', 'about to fence legacy', jsonb_build_object('attempt', of_attempt));
END $function$;

CREATE OR REPLACE FUNCTION migrator.join_fleet(of_migration text, of_lease text, of_instance text, of_about text, length_ms bigint, previous text, of_moves text)
 RETURNS TABLE(phase text, percent integer, epoch bigint, shadow text, lease_ms bigint, renew_ms bigint, fence_era bigint, reversible boolean, config_hash text, mark_owner text, mark_incarnation text, mark_beat bigint, applied text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
    m       migrator.migrations := migrator.enter(of_migration);
    before  record; -- the process's former lease
    now_at  timestamptz;
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    SELECT l.acknowledged_epoch, l.origin INTO before FROM migrator.leases l
        WHERE l.id = previous AND l.migration = of_migration AND migrator.holds(l.role);
    IF FOUND THEN
        -- [rejoin-epoch]: leases of the same process end here without a mark: its queue continues, under the lease
        -- that this transaction takes.
        UPDATE migrator.leases l SET ended = 'superseded', ended_at = clock_timestamp(), lost_at = NULL
            WHERE l.migration = of_migration AND l.ended IS DISTINCT FROM 'evicted' AND (l.ended_at IS NULL OR l.ended_at > clock_timestamp())
              AND (l.id = previous OR l.origin = before.origin) AND migrator.holds(l.role);
    ELSE
        -- [superseded-counts]: a lease that another process takes over counts until it would have expired: if both still
        -- run, the route of the first stays live. [unclean-mark]: the first may have had writes that no other process
        -- knows of. Another role's instance of the same name keeps its lease.
        UPDATE migrator.leases l SET ended = 'superseded',
               ended_at = least(greatest(l.expires_at, clock_timestamp()), clock_timestamp() + interval '5 minutes'),
               lost_at = CASE WHEN migrator.lost_writes(l.migration, l.acknowledged_epoch)
                              THEN least(greatest(l.expires_at, clock_timestamp()), clock_timestamp() + interval '5 minutes') END
            WHERE l.migration = of_migration AND l.instance = of_instance AND l.ended_at IS NULL AND migrator.holds(l.role);
    END IF;
    now_at := clock_timestamp();
    -- [join-locked]: the lease acknowledges the epoch that this transaction reads, under the lock that a move takes
    -- exclusively. [rejoin-epoch]: not above what the former lease acknowledged. [join-described]: a trigger compares
    -- what the instance moves with what is applied, under the same lock.
    INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at, origin, moves, role)
        VALUES (of_lease, m.name, of_instance, left(of_about, 1000), least(m.epoch, before.acknowledged_epoch), now_at, now_at,
                now_at + migrator.lease_length(length_ms, m.lease_ms), coalesce(before.origin, of_lease), of_moves, migrator.fleet_role(of_migration));
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), least(m.lease_ms, 300000), m.renew_ms, m.fence_era, m.reversible,
        m.config_hash, of_migration || '@' || i.id, k.incarnation, k.confirmed, m.moves
        FROM (SELECT) one LEFT JOIN (migrator.marks k CROSS JOIN migrator.identity i) ON k.migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.journal_captured(of_migration text, keys bytea[], versions text[], reasons text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF cardinality(keys) > 100000 THEN
        RAISE EXCEPTION 'more than 100000 keys at once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- [journal-serial]: a move waits for this transaction and sees its keys, or this one sees the move.
    PERFORM FROM migrator.migrations WHERE name = of_migration AND phase IN ('legacy', 'shadow-write', 'dual-read', 'cutover', 'grace') FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no key is journaled behind the fence' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- [journal-version]: the highest one that the target lacks.
    INSERT INTO migrator.journal AS j (migration, key, version, changes, reason, first_at, last_at)
        SELECT of_migration, l.key, l.version, 1, left(l.reason, 500), clock_timestamp(), clock_timestamp()
        FROM unnest(keys, versions, reasons) AS l (key, version, reason)
        ORDER BY l.key
        ON CONFLICT (migration, key) DO UPDATE SET
            version = greatest(j.version, excluded.version), changes = j.changes + 1, reason = excluded.reason, last_at = excluded.last_at;
END $function$;

CREATE OR REPLACE FUNCTION migrator.journal_keys(of_migration text, keys bytea[], versions text[], changed bigint[], reasons text[])
 RETURNS TABLE(phase text, percent integer, epoch bigint, shadow text, live_phases text[], live_percents integer[])
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
    m migrator.migrations := migrator.enter(of_migration);
    live_phases text[];
    live_percents integer[];
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    IF cardinality(keys) > 100000 OR EXISTS (SELECT FROM unnest(changed) c WHERE c IS NULL OR c NOT BETWEEN 1 AND 1000000) THEN
        RAISE EXCEPTION 'more than 100000 keys at once, or a number of changes that is not 1 to 1000000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- [journal-held]: read in the transaction that journals: a route that an instance may have swapped to, and not
    -- acknowledged yet, counts too.
    SELECT array_agg(r.phase), array_agg(r.percent) INTO live_phases, live_percents FROM migrator.live_routes(of_migration) r;
    -- [journal-version]: the highest failed version. [journal-changes]: the count only grows, so a repair that began before
    -- finds the difference. [no-journal-fails]: behind a fence no key enters.
    IF m.phase IN ('legacy', 'shadow-write', 'dual-read', 'cutover', 'grace') THEN
        INSERT INTO migrator.journal AS j (migration, key, version, changes, reason, first_at, last_at)
            SELECT m.name, l.key, l.version, l.changes, left(l.reason, 500), clock_timestamp(), clock_timestamp()
            FROM unnest(keys, versions, changed, reasons) AS l (key, version, changes, reason)
            ORDER BY l.key
            ON CONFLICT (migration, key) DO UPDATE SET
                version = greatest(j.version, excluded.version), changes = j.changes + excluded.changes,
                reason = excluded.reason, last_at = excluded.last_at;
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), live_phases, live_percents;
END $function$;

CREATE OR REPLACE FUNCTION migrator.keep_configuration()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.configuration := encode(sha256(migrator.netstring(NEW.config::text) || migrator.netstring(NEW.config_hash)
        || migrator.netstring(NEW.schema::text) || migrator.netstring(NEW.environment)), 'hex');
    -- A config hash stands for one configuration, but for what may be tuned: evidence and approvals of
    -- another one can't be reused under its name.
    IF EXISTS (SELECT FROM migrator.configurations c WHERE c.migration = NEW.name AND c.config_hash = NEW.config_hash
               AND migrator.what_matters(c.config::jsonb) <> migrator.what_matters(NEW.config::jsonb)) THEN
        RAISE EXCEPTION 'the config hash % stands for another configuration of %', left(NEW.config_hash, 12), NEW.name USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.configurations (migration, hash, config, config_hash, schema, environment, actor, at)
    VALUES (NEW.name, NEW.configuration, NEW.config, NEW.config_hash, NEW.schema, NEW.environment, migrator.person(), clock_timestamp())
    ON CONFLICT DO NOTHING;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.keep_epochs_rising()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NEW.epoch < OLD.epoch
       OR (NEW.phase, NEW.percent) IS DISTINCT FROM (OLD.phase, OLD.percent) AND NEW.epoch = OLD.epoch THEN
        RAISE EXCEPTION 'migration %: a change of route needs a new epoch', OLD.name
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.keep_evaluation()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF OLD.at > clock_timestamp() - interval '6 hours' THEN
        RAISE EXCEPTION 'evaluation % is younger than six hours: DELETE is refused', OLD.id USING ERRCODE = 'insufficient_privilege';
    ELSIF OLD.at > clock_timestamp() - interval '7 days'
      AND current_user <> (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'migrator') THEN
        RAISE EXCEPTION 'evaluation % is younger than a week: DELETE is refused', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $function$;

CREATE OR REPLACE FUNCTION migrator.lawful_step(from_phase text, from_percent integer, to_phase text, to_percent integer, cause text, reclaim boolean)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT to_percent BETWEEN 0 AND 10000 AND (to_phase IN ('dual-read', 'cutover')) = (to_percent > 0) AND CASE
        WHEN reclaim THEN cause = 'rollback' AND from_phase <> 'complete' AND (
            to_phase = 'returning'
            OR to_phase = 'lifting' AND from_phase IN ('fenced', 'lifting', 'returning')
            OR to_phase = 'dual-read' AND to_percent = 10000 AND from_phase IN ('dual-read', 'cutover', 'grace')
            OR to_phase = from_phase AND to_phase IN ('legacy', 'shadow-write'))
        WHEN from_phase = to_phase THEN to_percent <> from_percent AND cause = ANY (CASE WHEN to_percent > from_percent
            THEN ARRAY['advance', 'schedule'] ELSE ARRAY['rollback', 'trigger', 'loss'] END)
        WHEN cause = 'advance' THEN (from_phase, to_phase) IN (('legacy', 'shadow-write'), ('shadow-write', 'dual-read'), ('dual-read', 'cutover'),
            ('cutover', 'grace'), ('grace', 'fenced'), ('fenced', 'retain'), ('retain', 'complete'))
        WHEN cause = 'fence' THEN (from_phase, to_phase) IN (('grace', 'fenced'), ('grace', 'lifting'), ('fenced', 'lifting'), ('fenced', 'retain'), ('lifting', 'grace'),
            ('returning', 'grace'))
        WHEN cause IN ('rollback', 'trigger', 'loss') THEN (from_phase, to_phase) IN (('shadow-write', 'legacy'), ('dual-read', 'shadow-write'), ('cutover', 'dual-read'),
            ('grace', 'dual-read'), ('grace', 'cutover'), ('grace', 'lifting'), ('fenced', 'lifting'), ('lifting', 'grace'), ('retain', 'returning'),
            ('returning', 'grace'), ('returning', 'retain'))
        ELSE false END
$function$;

CREATE OR REPLACE FUNCTION migrator.lease_length(asked_ms bigint, applied_ms bigint)
 RETURNS interval
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF asked_ms NOT BETWEEN 1 AND 300000 THEN
        RAISE EXCEPTION 'a lease of % ms: want 1 to 300000', asked_ms USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN coalesce(asked_ms, least(applied_ms, 300000)) * interval '1 millisecond';
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_aside(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET set_aside = set_aside + records
    WHERE name = of_migration AND phase = 'returning' AND return_sets_aside AND records > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the return in progress sets no record aside' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_fleet(of_migration text, of_lease text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    -- [leave-drained]: removes the mark of possibly lost writes, since the instance reports that all its operations have
    -- drained. An eviction remains: it is in the history, and has its own mark.
    UPDATE migrator.leases l SET ended = 'left', lost_at = NULL, ended_at = least(l.ended_at, clock_timestamp())
        WHERE l.id = of_lease AND l.migration = of_migration AND (l.ended IS NULL OR l.ended = 'superseded') AND migrator.holds(l.role);
    RETURN FOUND;
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_missing(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET return_accepted = return_accepted - records
    WHERE name = of_migration AND phase = 'returning' AND return_accepted >= records AND records > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the target has lost more records than were accepted' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.mark_unclean(of_migration, 'the target lost records, and legacy has older states of them');
END $function$;

CREATE OR REPLACE FUNCTION migrator.leave_return(of_migration text, keys bytea[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE gone bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    DELETE FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (keys);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE migrator.returns SET total = greatest(total - gone, 0) WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.lift_fault(of_migration text, of_fault text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET fault = NULL, fault_until = NULL WHERE name = of_migration AND fault ->> 'id' = of_fault
$function$;

CREATE OR REPLACE FUNCTION migrator.list_tokens()
 RETURNS TABLE(id bigint, role text, about text, created_at timestamp with time zone, created_by text, expires_at timestamp with time zone, replaces bigint, revoked_at timestamp with time zone, revoked_by text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT k.id, k.role, k.about, k.created_at, k.created_by, k.expires_at, k.replaces, k.revoked_at, k.revoked_by
        FROM migrator.tokens k WHERE migrator.owns() OR k.role = migrator.person() ORDER BY k.id;
END $function$;

CREATE OR REPLACE FUNCTION migrator.live_routes(of_migration text)
 RETURNS TABLE(phase text, percent integer, epoch bigint)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
BEGIN
    -- [held-routes], [journal-held]: from the lowest epoch that a counted lease acknowledged: its
    -- instance may be on any later one. [lapsed-held]: on routes that read the target alone a lapsed
    -- lease counts too. [loss-held]: epochs that were only reported are rows of epochs as well.
    RETURN QUERY SELECT e.phase::text, e.percent, e.epoch FROM migrator.epochs e
    WHERE e.migration = of_migration AND e.epoch >= (SELECT min(l.acknowledged_epoch) FROM migrator.leases l
        WHERE l.migration = of_migration AND (l.expires_at > clock_timestamp()
              OR e.phase IN ('fenced', 'lifting', 'returning', 'retain', 'complete'))
          AND (l.ended_at IS NULL OR l.ended_at > clock_timestamp()))
    ORDER BY e.epoch DESC;
END $function$;

CREATE OR REPLACE FUNCTION migrator.lose_capture(of_migration text, why text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    at text;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    SELECT phase INTO STRICT at FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    INSERT INTO migrator.captures AS c (migration, lost, lost_at)
        VALUES (of_migration, left(why, 500), CASE WHEN at NOT IN ('retain', 'complete') THEN clock_timestamp() END)
        ON CONFLICT (migration) DO UPDATE SET lost = excluded.lost, lost_at = coalesce(excluded.lost_at, c.lost_at) WHERE c.lost = '';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Behind the fence, which capture has passed, legacy takes nothing that could be missing.
    IF at NOT IN ('legacy', 'retain', 'complete') THEN
        -- [capture-reentry]: its barrier is from before.
        UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = of_migration AND finished_at IS NULL AND void_at IS NULL;
        PERFORM migrator.mark_unclean(of_migration, why);
    END IF;
    RETURN true;
END $function$;

CREATE OR REPLACE FUNCTION migrator.lose_legacy(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = of_migration AND finished_at IS NULL AND void_at IS NULL;
    SELECT migrator.mark_unclean(of_migration, why)
$function$;

CREATE OR REPLACE FUNCTION migrator.lose_target(of_migration text, of_incarnation text, why text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.marks SET lost_at = clock_timestamp(), lost = left(why, 500), doubted_at = clock_timestamp()
    WHERE migration = of_migration AND incarnation = of_incarnation AND lost_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM migrator.mark_unclean(of_migration, why);
    RETURN true;
END $function$;

CREATE OR REPLACE FUNCTION migrator.lost_writes(of_migration text, acknowledged bigint)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = of_migration AND e.epoch >= acknowledged
                   AND e.phase IN ('shadow-write', 'dual-read', 'cutover', 'grace'))
$function$;

CREATE OR REPLACE FUNCTION migrator.mark_copied(of_migration text, at_epoch bigint, to_legacy text, up_to bigint, not_copied bytea[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    -- In the order in which writers lock them.
    PERFORM FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (not_copied) ORDER BY key FOR UPDATE;
    UPDATE migrator.return_journal SET changes = changes WHERE migration = of_migration AND key = ANY (not_copied) AND changes <= up_to;
    UPDATE migrator.returns SET copied = greatest(copied, up_to) WHERE migration = of_migration AND legacy = to_legacy;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'copies go to another legacy' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.mark_of(of_migration text, OUT owner text, OUT incarnation text, OUT confirmed bigint, OUT lost text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT k.migration || '@' || i.id, k.incarnation, k.confirmed, k.lost
    FROM migrator.marks k, migrator.identity i WHERE k.migration = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.mark_unclean(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500) WHERE name = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.may(of_kind text, of_migration text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE who name := migrator.person();
BEGIN
    -- A row of a role that was dropped joins nothing.
    IF EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
               WHERE (g.kind = of_kind OR of_kind = 'viewer' AND g.kind IN ('operator', 'decider'))
                 AND g.migration IN ('*', of_migration) AND pg_has_role(who, r.oid, 'MEMBER')) THEN
        RETURN true;
    END IF;
    -- pg_has_role is true for a superuser, whatever the role.
    RETURN pg_has_role(who, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
END $function$;

CREATE OR REPLACE FUNCTION migrator.move(in_migration text, in_from_epoch bigint, in_phase text, in_percent integer, in_cause text, in_reason text, in_evidence jsonb, in_attempt text, in_fence_era bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    m migrator.migrations;
    moved_at timestamptz;
    number bigint;
BEGIN
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = in_migration FOR UPDATE;
    IF m.epoch <> in_from_epoch THEN
        RAISE EXCEPTION 'migration % is in epoch %, not %', m.name, m.epoch, in_from_epoch
            USING ERRCODE = 'serialization_failure';
    END IF;
    SELECT max(epoch) + 1 INTO STRICT number FROM migrator.epochs WHERE migration = m.name;
    moved_at := clock_timestamp();
    INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at)
        VALUES (m.name, number, in_phase, in_percent, moved_at);
    INSERT INTO migrator.history (migration, cause, from_phase, from_percent, from_epoch,
            to_phase, to_percent, to_epoch, reason, config_hash, evidence)
        VALUES (m.name, in_cause, m.phase, m.percent, m.epoch,
            in_phase, in_percent, number, in_reason, m.config_hash, in_evidence);
    UPDATE migrator.migrations SET
        phase = in_phase, percent = in_percent, epoch = number, route_since = moved_at,
        phase_since = CASE WHEN in_phase = m.phase THEN m.phase_since ELSE moved_at END,
        attempt = in_attempt,
        fence_era = CASE WHEN in_fence_era > 0 THEN in_fence_era ELSE m.fence_era END
        WHERE name = m.name;
    PERFORM pg_notify('migrator', json_build_object('migration', m.name, 'epoch', number)::text);
    RETURN number;
END $function$;

CREATE OR REPLACE FUNCTION migrator.netstring(t text)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT convert_to(octet_length(convert_to(t, 'UTF8'))::text || ':', 'UTF8') || convert_to(t, 'UTF8')
$function$;

CREATE OR REPLACE FUNCTION migrator.newest_change(of_migration text)
 RETURNS bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    SELECT last_value FROM migrator.return_changes
$function$;

CREATE OR REPLACE FUNCTION migrator.next_beat(of_migration text, of_incarnation text, had bigint, OUT next bigint, OUT confirmed bigint)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.marks k SET
        confirmed = CASE WHEN had = k.beat THEN had ELSE k.confirmed END,
        confirmed_at = CASE WHEN had = k.beat AND had > k.confirmed THEN clock_timestamp() ELSE k.confirmed_at END,
        beat = k.beat + 1
    WHERE k.migration = of_migration AND k.incarnation = of_incarnation
    RETURNING k.beat, k.confirmed
$function$;

CREATE OR REPLACE FUNCTION migrator.note(of_migration text, of_cause text, why text, of_evidence jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF of_cause NOT IN ('loss', 'table') THEN
        RAISE EXCEPTION 'an entry with the cause % is written by the command of that name alone', of_cause USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF jsonb_path_exists(of_evidence, '$.gates') OR jsonb_path_exists(of_evidence, '$.fired') THEN
        RAISE EXCEPTION 'an entry that changes no route has no gates' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM migrator.note_entry(of_migration, of_cause, why, of_evidence);
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_alerts(of_migration text, firing jsonb, resolved jsonb, watchdog boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF NOT EXISTS (SELECT FROM migrator.migrations WHERE name = of_migration) THEN
        RETURN;
    END IF;
    DELETE FROM migrator.alerts a USING jsonb_array_elements(resolved) r
        WHERE a.migration = of_migration AND a.trigger <> '' AND a.trigger = r ->> 'trigger' AND a.fingerprint = r ->> 'fingerprint'
          AND a.starts_at <= (r ->> 'starts_at')::timestamptz;
    DELETE FROM migrator.alerts WHERE migration = of_migration AND trigger <> '' AND heard_at < clock_timestamp() - interval '1 hour';
    INSERT INTO migrator.alerts (migration, trigger, fingerprint, starts_at, detail, heard_at)
        SELECT of_migration, f.trigger, f.fingerprint, max(f.starts_at), max(left(f.detail, 600)), clock_timestamp()
        FROM (SELECT e ->> 'trigger' AS trigger, e ->> 'fingerprint' AS fingerprint, (e ->> 'starts_at')::timestamptz AS starts_at, e ->> 'detail' AS detail,
                     row_number() OVER (PARTITION BY e ->> 'trigger' ORDER BY e ->> 'fingerprint') AS n
              FROM jsonb_array_elements(firing) e) AS f
        WHERE f.trigger <> '' AND f.starts_at < clock_timestamp() + interval '1 day' AND (EXISTS (SELECT FROM migrator.alerts a WHERE a.migration = of_migration AND a.trigger = f.trigger AND a.fingerprint = f.fingerprint)
            OR f.n + (SELECT count(*) FROM migrator.alerts a WHERE a.migration = of_migration AND a.trigger = f.trigger) <= 100)
        GROUP BY f.trigger, f.fingerprint
    ON CONFLICT (migration, trigger, fingerprint) DO UPDATE SET starts_at = excluded.starts_at, detail = excluded.detail, heard_at = excluded.heard_at;
    IF watchdog THEN
        INSERT INTO migrator.alerts (migration, trigger, fingerprint, starts_at, detail, heard_at)
            VALUES (of_migration, '', '', clock_timestamp(), '', clock_timestamp())
        ON CONFLICT (migration, trigger, fingerprint) DO UPDATE SET heard_at = excluded.heard_at;
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_bypass(of_migration text, looked timestamp with time zone, next migrator.bypass)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF next.migration <> of_migration OR next.epoch > (SELECT epoch FROM migrator.migrations WHERE name = of_migration)
       OR next.looked_at > clock_timestamp() OR next.began_at > next.looked_at OR next.judged = 'NaN' OR next.judged = 'Infinity' THEN
        RAISE EXCEPTION 'a look at legacy''s counters that can''t be' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.bypass AS b SELECT next.*
    ON CONFLICT (migration) DO UPDATE SET stay = excluded.stay, epoch = excluded.epoch, began_at = excluded.began_at, looked_at = excluded.looked_at,
        judged = excluded.judged, why = excluded.why, counters = excluded.counters, samples = excluded.samples, discarded = excluded.discarded,
        "least" = excluded."least", most = excluded.most, first_at = excluded.first_at, last_at = excluded.last_at, writers = excluded.writers
    WHERE b.stay <> excluded.stay OR b.looked_at = looked;
    RETURN FOUND;
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_checks(of_migration text, new_checks jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    hash   text;
    before jsonb;
    looked boolean;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF jsonb_array_length(new_checks) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION '% checks: want 1 to 200', jsonb_array_length(new_checks) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT config_hash INTO hash FROM migrator.migrations WHERE name = of_migration;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    SELECT coalesce(jsonb_object_agg(name, result), '{}'), coalesce(bool_or(config_hash = hash), false) INTO before, looked
        FROM migrator.checks WHERE migration = of_migration;
    IF EXISTS (SELECT FROM jsonb_array_elements(new_checks) c WHERE c ->> 'name' LIKE '%connection' AND c ->> 'result' = 'refused') THEN
        UPDATE migrator.checks SET result = 'not checked', detail = 'could not be looked at', hint = '{}', looked_at = clock_timestamp(),
            since = CASE WHEN result = 'not checked' THEN since ELSE clock_timestamp() END
        WHERE migration = of_migration AND name NOT IN (SELECT c ->> 'name' FROM jsonb_array_elements(new_checks) c);
    ELSE
        DELETE FROM migrator.checks WHERE migration = of_migration AND name NOT IN (SELECT c ->> 'name' FROM jsonb_array_elements(new_checks) c);
    END IF;
    INSERT INTO migrator.checks AS old (migration, name, result, applied, config_hash, detail, hint, since, looked_at)
        SELECT of_migration, c ->> 'name', c ->> 'result', CASE WHEN looked THEN 'ok' ELSE c ->> 'result' END, hash,
               left(c ->> 'detail', 2000), coalesce(c -> 'hint', '{}'), clock_timestamp(), clock_timestamp()
        FROM jsonb_array_elements(new_checks) c
    ON CONFLICT (migration, name) DO UPDATE SET result = excluded.result, detail = excluded.detail, hint = excluded.hint,
        applied = CASE WHEN old.config_hash = hash THEN old.applied ELSE excluded.result END, config_hash = hash,
        since = CASE WHEN old.result = excluded.result THEN old.since ELSE excluded.since END, looked_at = excluded.looked_at;
    RETURN before;
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_entry(of_migration text, of_cause text, why text, of_evidence jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    INSERT INTO migrator.history (migration, cause, from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch, reason, config_hash, evidence)
    SELECT name, of_cause, phase, percent, epoch, phase, percent, epoch, left(why, 10000), config_hash, of_evidence FROM migrator.migrations WHERE name = of_migration;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration %', of_migration USING ERRCODE = 'no_data_found';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_fence(of_migration text, of_attempt text, new_mark text, lost boolean)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.fences AS f (migration, attempt, mark, lost_at)
    VALUES (of_migration, of_attempt, new_mark, CASE WHEN lost THEN clock_timestamp() END)
    ON CONFLICT (migration) DO UPDATE SET attempt = of_attempt, mark = new_mark, lost_at = excluded.lost_at
    WHERE lost OR f.attempt <> of_attempt
$function$;

CREATE OR REPLACE FUNCTION migrator.note_forget_era(of_migration text, era bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET forgetting_era = greatest(forgetting_era, fence_era, era) WHERE name = of_migration AND forgetting_at IS NOT NULL;
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_parts(of_migration text, new_parts jsonb, new_changes text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.parts AS p (migration, parts) VALUES (of_migration, new_parts)
    ON CONFLICT (migration) DO UPDATE SET parts = new_parts,
        changed = CASE WHEN new_changes IS NULL THEN ''
                       WHEN p.changed = '' THEN left(new_changes, 500)
                       WHEN length(p.changed) + length(new_changes) > 490 THEN left(p.changed, 490) || ' ...'
                       ELSE p.changed || '; ' || new_changes END,
        changed_at = CASE WHEN new_changes IS NOT NULL THEN clock_timestamp() END
$function$;

CREATE OR REPLACE FUNCTION migrator.note_return(of_migration text, why text, of_evidence jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    IF NOT EXISTS (SELECT FROM migrator.migrations WHERE name = of_migration AND phase = 'returning') OR of_evidence ? 'gates' OR of_evidence ? 'fired' THEN
        RAISE EXCEPTION 'there is no return in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM migrator.note_entry(of_migration, 'rollback', why, of_evidence);
END $function$;

CREATE OR REPLACE FUNCTION migrator.note_return_rate(of_migration text, keys_per_second double precision)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.returns SET rate = keys_per_second WHERE migration = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.note_server()
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', '*');
    INSERT INTO migrator.servers (server)
    SELECT now.server FROM (SELECT migrator.server() AS server) now
    WHERE now.server IS DISTINCT FROM (SELECT server FROM migrator.servers ORDER BY id DESC LIMIT 1) AND now.server IS NOT NULL
$function$;

CREATE OR REPLACE FUNCTION migrator.number_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.changes := nextval('migrator.return_changes');
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.observe(of_migration text, of_lease text, incarnations text[], sequences bigint[], instances text[], epochs bigint[], hashes text[], ages bigint[], lengths bigint[], discarded bigint[], counts bytea[])
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE now_at timestamptz := clock_timestamp();
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    IF NOT EXISTS (SELECT FROM migrator.leases l WHERE l.id = of_lease AND l.migration = of_migration AND migrator.holds(l.role)) THEN
        RETURN false;
    END IF;
    IF cardinality(sequences) > 500 OR EXISTS (SELECT FROM unnest(ages, lengths, counts) w (age, length, counts)
            WHERE (w.age BETWEEN 0 AND 7 * 86400000000 AND w.length BETWEEN 0 AND 86400000000
                   AND octet_length(w.counts) > 1 AND get_byte(w.counts, 0) BETWEEN 1 AND 9) IS NOT TRUE) THEN
        RAISE EXCEPTION 'more than 500 windows, or one whose age, length or counts are out of range' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.windows (migration, incarnation, sequence, instance, epoch, config_hash, began_at, ended_at, discarded, counts)
        SELECT of_migration, w.incarnation, w.sequence, w.instance, w.epoch, w.config_hash,
               now_at - (w.age + w.length) * interval '1 microsecond', now_at - w.age * interval '1 microsecond', w.discarded, w.counts
        FROM unnest(incarnations, sequences, instances, epochs, hashes, ages, lengths, discarded, counts)
            AS w (incarnation, sequence, instance, epoch, config_hash, age, length, discarded, counts)
        JOIN migrator.epochs e ON e.migration = of_migration AND e.epoch = w.epoch
        ON CONFLICT DO NOTHING;
    RETURN true;
END $function$;

CREATE OR REPLACE FUNCTION migrator.one_line(t text, most integer)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT left(regexp_replace(t, '[[:cntrl:]]+', ' ', 'g'), most)
$function$;

CREATE OR REPLACE FUNCTION migrator.owns()
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pg_has_role(migrator.person(), (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER')
$function$;

CREATE OR REPLACE FUNCTION migrator.pause(of_migration text, new_paused text, why text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require_one(of_migration, 'decider', 'operator');
    -- The statement compares: pausing twice for one reason writes one entry of the history.
    UPDATE migrator.migrations SET paused = left(new_paused, 10000) WHERE name = of_migration AND paused <> left(new_paused, 10000);
    IF FOUND THEN
        PERFORM migrator.note_entry(of_migration, CASE WHEN new_paused = '' THEN 'resume' ELSE 'pause' END, why, '{}');
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.person()
 RETURNS name
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF coalesce(current_setting('migrator.token', true), '') = '' THEN
        RETURN session_user;
    END IF;
    RETURN (migrator.bearer()).role::name;
END $function$;

CREATE OR REPLACE FUNCTION migrator.place_mark(of_migration text, new_incarnation text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.marks (migration, incarnation) VALUES (of_migration, new_incarnation)
    ON CONFLICT (migration) DO UPDATE SET incarnation = excluded.incarnation, beat = 0, confirmed = 0, confirmed_at = NULL, lost_at = NULL, lost = '',
        doubted_at = clock_timestamp()
$function$;

CREATE OR REPLACE FUNCTION migrator.prune(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    -- An evaluation that the history names is never deleted: a step or a rollback rests on it.
    WITH named AS (
            SELECT (jsonb_path_query(evidence, '$.evaluations[*].id') #>> '{}')::bigint AS id FROM migrator.history WHERE migration = of_migration
            UNION SELECT (evidence #>> '{fired,evaluation}')::bigint FROM migrator.history WHERE migration = of_migration AND cause = 'trigger'),
        all_of AS (
            SELECT id, at,
                   row_number() OVER (PARTITION BY kind, name, date_bin('20 minutes', at, '2020-01-01Z') ORDER BY at DESC, id DESC) = 1 AS newest,
                   row_number() OVER (PARTITION BY kind, name, date_trunc('hour', at, 'UTC') ORDER BY at DESC, id DESC) = 1 AS newest_of_hour,
                   -- A trigger that needs many evaluations in succession counts up to a hundred.
                   row_number() OVER (PARTITION BY kind, name ORDER BY at DESC, id DESC) <= 100 AS last,
                   verdict IS DISTINCT FROM lag(verdict) OVER (PARTITION BY kind, name ORDER BY at, id) AS turned,
                   -- By it an alert that is repeated is known again.
                   inputs #>> '{answer,source,key}' IS NOT NULL AS alert
            FROM migrator.evaluations WHERE migration = of_migration),
        void AS (
            SELECT id FROM all_of
            WHERE at < clock_timestamp() - interval '90 days'
               OR at < clock_timestamp() - interval '7 days' AND NOT newest_of_hour AND NOT turned
               OR at < clock_timestamp() - interval '6 hours' AND NOT newest AND NOT turned AND NOT last AND NOT alert)
        DELETE FROM migrator.evaluations e USING void
        WHERE e.id = void.id AND NOT EXISTS (SELECT FROM named WHERE named.id = e.id);
    DELETE FROM migrator.outbox WHERE migration = of_migration AND (delivered_at < clock_timestamp() - interval '30 days'
        OR delivered_at IS NULL AND at < clock_timestamp() - interval '7 days');
    -- Without webhooks no process takes the wake-ups; with them, messages of which one was lost are found in half a minute.
    DELETE FROM migrator_river.river_job WHERE kind = 'webhooks' AND state = 'available' AND scheduled_at < clock_timestamp() - interval '1 hour'
        AND queue = 'webhooks_' || left(encode(sha256(convert_to(of_migration, 'UTF8')), 'hex'), 16);
END $function$;

CREATE OR REPLACE FUNCTION migrator.prune_findings(of_migration text, keep interval)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    DELETE FROM migrator.reconcile_findings f USING migrator.reconcile_runs r
        WHERE r.id = f.run AND r.migration = of_migration AND r.finished_at < clock_timestamp() - greatest(keep, CASE WHEN migrator.owns() THEN keep ELSE interval '1 day' END)
          AND (r.status IN ('done', 'cancelled')
            OR r.status = 'stopped' AND NOT EXISTS (SELECT FROM migrator.reconcile_jobs j WHERE j.run = r.id))
          AND r.id <> ALL (ARRAY(SELECT max(id) FROM migrator.reconcile_runs
            WHERE migration = of_migration AND status = 'done' GROUP BY GROUPING SETS ((whole, two_way), (differences > 0))));
END $function$;

CREATE OR REPLACE FUNCTION migrator.prune_return(of_migration text, most integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE gone bigint;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    DELETE FROM migrator.return_journal j USING (
        SELECT e.key, e.changes FROM migrator.return_journal e
        WHERE e.migration = of_migration AND e.changes <= (SELECT r.floor FROM migrator.returns r WHERE r.migration = of_migration)
        ORDER BY e.changes LIMIT most FOR UPDATE SKIP LOCKED) AS void
        WHERE j.migration = of_migration AND j.key = void.key AND j.changes = void.changes;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $function$;

CREATE OR REPLACE FUNCTION migrator.raise_beat(of_migration text, of_incarnation text, above bigint)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    WITH raised AS (UPDATE migrator.marks SET beat = above
        WHERE migration = of_migration AND incarnation = of_incarnation AND beat < above RETURNING true)
    SELECT EXISTS (SELECT FROM raised)
$function$;

CREATE OR REPLACE FUNCTION migrator.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $function$;

CREATE OR REPLACE FUNCTION migrator.refuse_join()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF EXISTS (SELECT FROM migrator.migrations WHERE name = NEW.migration AND forgetting_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the migration % is being forgotten: no instance joins it', NEW.migration USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.refuse_lost_target(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE why text;
BEGIN
    SELECT k.lost INTO why FROM migrator.marks k WHERE k.migration = of_migration AND k.lost_at IS NOT NULL;
    IF FOUND THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'MG012';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.renew_lease(of_migration text, of_lease text, acknowledged bigint, length_ms bigint)
 RETURNS TABLE(phase text, percent integer, epoch bigint, shadow text, lease_ms bigint, renew_ms bigint, fence_era bigint, reversible boolean, config_hash text, mark_owner text, mark_incarnation text, mark_beat bigint, applied text, instance text, moves text, unsettled boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
    m migrator.migrations := migrator.enter(of_migration);
    mine record;
    settles boolean := false;
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    -- [lease-final]: only a lease that has neither ended nor expired is renewed: a rollback may have counted it as lapsed
    -- and not waited for it. The acknowledged epoch never decreases, and never exceeds the present one.
    UPDATE migrator.leases l SET renewed_at = now.at, expires_at = now.at + migrator.lease_length(length_ms, m.lease_ms),
           acknowledged_epoch = greatest(l.acknowledged_epoch, least(acknowledged, m.epoch))
        FROM (SELECT clock_timestamp() AS at) now
        WHERE l.id = of_lease AND l.migration = of_migration AND l.ended_at IS NULL AND l.expires_at > now.at AND migrator.holds(l.role)
        RETURNING l.instance, l.moves, l.acknowledged_epoch INTO mine;
    IF mine.acknowledged_epoch = m.epoch THEN
        settles := EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = of_migration AND e.epoch = m.epoch AND e.settled_at IS NULL);
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), least(m.lease_ms, 300000), m.renew_ms, m.fence_era, m.reversible,
        m.config_hash, of_migration || '@' || i.id, k.incarnation, k.confirmed, m.moves, mine.instance, mine.moves, settles
        FROM (SELECT) one LEFT JOIN (migrator.marks k CROSS JOIN migrator.identity i) ON k.migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.report_capture(of_migration text, new_status jsonb)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.captures (migration, status, reported_at) VALUES (of_migration, new_status, clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET status = excluded.status, reported_at = excluded.reported_at
$function$;

CREATE OR REPLACE FUNCTION migrator.report_fault(of_migration text, of_lease text, of_fault text, executed bigint, first_age bigint, is_over boolean)
 RETURNS TABLE(fault text, remaining_ms bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    UPDATE migrator.leases l SET
           fault = CASE WHEN NOT is_over THEN nullif(of_fault, '') END,
           fault_of = CASE WHEN of_fault = '' THEN l.fault_of ELSE of_fault END,
           fault_executed = CASE WHEN of_fault = '' THEN l.fault_executed ELSE executed END,
           fault_first_at = CASE WHEN of_fault = '' THEN l.fault_first_at
                                 WHEN executed > 0 THEN clock_timestamp() - least(greatest(first_age, 0), 86400000000) * interval '1 microsecond' END
        WHERE l.id = of_lease AND l.migration = of_migration AND migrator.holds(l.role) AND CASE WHEN of_fault = '' THEN l.fault IS NOT NULL
              ELSE (l.fault, l.fault_of, l.fault_executed) IS DISTINCT FROM (CASE WHEN NOT is_over THEN of_fault END, of_fault, executed) END;
    RETURN QUERY SELECT m.fault::text, (extract(epoch FROM m.fault_until - clock_timestamp()) * 1000)::bigint FROM migrator.migrations m
        WHERE m.name = of_migration AND m.environment = 'staging' AND m.fault_until > clock_timestamp();
END $function$;

CREATE OR REPLACE FUNCTION migrator.require(of_kind text, of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF migrator.may(of_kind, of_migration) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'the role % has no grant of the kind % for the migration %; try: migrator init --grant-% % --migration %',
        migrator.person(), of_kind, of_migration, of_kind, quote_ident(migrator.person()), of_migration USING ERRCODE = 'insufficient_privilege';
END $function$;

CREATE OR REPLACE FUNCTION migrator.require_deciders(m migrator.migrations, new_config jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    before jsonb := coalesce(m.config::jsonb #> '{phases,approval}', '{}');
    after  jsonb := coalesce(new_config #> '{phases,approval}', '{}');
    p      text;
BEGIN
    IF before = after THEN
        RETURN;
    END IF;
    -- A role that does not exist has no members: then the schema's owner corrects it.
    IF coalesce(before ->> 'role', '') = '' OR EXISTS (SELECT FROM pg_roles WHERE rolname = before ->> 'role')
       OR NOT pg_has_role(migrator.person(), (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        PERFORM migrator.require_member(coalesce(before ->> 'role', ''), 'change who decides');
    END IF;
    IF m.phase = 'legacy' THEN
        RETURN;
    END IF;
    FOR p IN SELECT t FROM jsonb_array_elements_text(CASE jsonb_typeof(before -> 'two_people') WHEN 'array' THEN before -> 'two_people' END) t WHERE (before -> 'for') ? t LOOP
        CONTINUE WHEN coalesce((after -> 'two_people') ? p AND (after -> 'for') ? p, false);
        IF NOT EXISTS (SELECT FROM migrator.approvals a WHERE a.migration = m.name AND a.to_phase = p AND a.epoch = m.epoch
                       AND a.config_hash = m.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> migrator.person()) THEN
            RAISE EXCEPTION '% needs two people, and so does ending that: %; try: migrator phase approve, as another person, or change it in legacy',
                p, migrator.approvers(m.name, p, m.epoch, m.config_hash) USING ERRCODE = 'MG011';
        END IF;
    END LOOP;
END $function$;

CREATE OR REPLACE FUNCTION migrator.require_fleet(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF NOT migrator.may('application', of_migration) AND NOT migrator.may('operator', of_migration) THEN
        PERFORM migrator.require('application', of_migration);
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.require_member(in_role text, in_may text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF in_role = '' THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = in_role) THEN
        RAISE EXCEPTION 'the role "%" that may % does not exist in the state database; try: CREATE ROLE %; GRANT % TO the people who decide',
            in_role, in_may, quote_ident(in_role), quote_ident(in_role) USING ERRCODE = 'MG010';
    END IF;
    IF NOT pg_has_role(migrator.person(), in_role, 'MEMBER') THEN
        RAISE EXCEPTION '% is not a member of the role %: only its members may %; connect to the state database as one of them',
            migrator.person(), in_role, in_may USING ERRCODE = 'MG010';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.require_one(of_migration text, VARIADIC kinds text[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE kind text;
BEGIN
    FOREACH kind IN ARRAY kinds LOOP
        IF migrator.may(kind, of_migration) THEN
            RETURN;
        END IF;
    END LOOP;
    PERFORM migrator.require(kinds[1], of_migration);
END $function$;

CREATE OR REPLACE FUNCTION migrator.require_return(of_migration text, at_epoch bigint, VARIADIC phases text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM FROM migrator.migrations WHERE name = of_migration AND epoch = at_epoch AND phase = ANY (phases) FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the migration has moved since epoch %', at_epoch USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.rescue(in_migration text, in_from_epoch bigint, in_reason text, in_evidence jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
    m     migrator.migrations;
    other record;
BEGIN
    PERFORM migrator.require_fleet(in_migration);
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = in_migration FOR UPDATE;
    IF m.phase NOT IN ('cutover', 'grace') OR m.attempt <> '' THEN
        RAISE EXCEPTION 'migration % is at %: reads do not go back to legacy from there', m.name, m.phase
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT r.* INTO other FROM migrator.conflict_of(in_migration) r;
    IF FOUND THEN
        RAISE EXCEPTION 'an instance may still be on % (epoch %), which must not run beside dual-read', other.phase, other.epoch
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- [loss-epoch]: move takes an epoch above all that are known; it refuses if the epoch is not the present one any more.
    RETURN migrator.move(in_migration, in_from_epoch, 'dual-read', 10000, 'failure', migrator.one_line(in_reason, 500),
        jsonb_build_object('write_epoch', in_evidence -> 'write_epoch', 'held', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'phase', r.phase, 'percent', r.percent, 'epoch', r.epoch)), '[]') FROM migrator.live_routes(in_migration) r)), '', 0);
END $function$;

CREATE OR REPLACE FUNCTION migrator.return_keys(of_migration text, at_epoch bigint, keys bytea[])
 RETURNS TABLE(phase text, percent integer, epoch bigint, shadow text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE m migrator.migrations := migrator.enter(of_migration);
BEGIN
    IF m.name IS NULL THEN
        RETURN;
    END IF;
    IF cardinality(keys) > 100000 THEN
        RAISE EXCEPTION 'more than 100000 keys at once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- [mark-lost]: a write of retain on a target that was emptied would rest on nothing.
    PERFORM migrator.refuse_lost_target(of_migration);
    -- [return-journal]: the phase and the epoch are compared under the lock: once a rollback has committed returning, no key
    -- enters and no write follows.
    IF m.phase = 'retain' AND m.epoch = at_epoch THEN
        INSERT INTO migrator.return_journal AS j (migration, key, changes, first_at, last_at)
            SELECT m.name, k.key, 1, clock_timestamp(), clock_timestamp() FROM unnest(keys) AS k (key) ORDER BY k.key
            ON CONFLICT (migration, key) DO UPDATE SET changes = j.changes + 1, last_at = excluded.last_at;
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, migrator.shadow_of(m);
END $function$;

CREATE OR REPLACE FUNCTION migrator.revoke_token(of_id bigint)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE of_role text;
BEGIN
    SELECT k.role INTO of_role FROM migrator.tokens k
        WHERE k.id = of_id AND (migrator.owns() OR k.role = session_user) AND coalesce(current_setting('migrator.token', true), '') = '' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no token %; try: migrator token list', of_id USING ERRCODE = 'no_data_found';
    END IF;
    UPDATE migrator.tokens SET revoked_at = clock_timestamp(), revoked_by = session_user WHERE id = of_id AND revoked_at IS NULL;
    PERFORM pg_notify('migrator', '{"tokens":true}');
    RETURN of_role;
END $function$;

CREATE OR REPLACE FUNCTION migrator.route(of_migration text)
 RETURNS TABLE(phase text, percent integer, epoch bigint, live_phases text[], live_percents integer[])
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, r.phases, r.percents FROM migrator.migrations m,
        (SELECT coalesce(array_agg(l.phase), '{}') AS phases, coalesce(array_agg(l.percent), '{}') AS percents FROM migrator.live_routes(of_migration) l) AS r
        WHERE m.name = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.save_capture(of_migration text, new_progress jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    ended boolean := coalesce(new_progress ->> 'slot', '') = '';
BEGIN
    PERFORM migrator.require('operator', of_migration);
    INSERT INTO migrator.captures AS c (migration, progress, saved_at) VALUES (of_migration, new_progress, clock_timestamp())
        ON CONFLICT (migration) DO UPDATE SET progress = excluded.progress, saved_at = excluded.saved_at, lost = ''
        WHERE ended OR c.lost = '';
    -- [capture-progress]: of a process that has not noticed that changes are lost.
    IF NOT FOUND THEN
        RAISE EXCEPTION 'changes of legacy are lost to capture, which has to begin again' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.see_columns(of_migration text, of_side text, new_changes jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    before jsonb;
BEGIN
    PERFORM migrator.require('operator', of_migration);
    SELECT changes INTO before FROM migrator.columns_seen WHERE migration = of_migration AND side = of_side;
    INSERT INTO migrator.columns_seen (migration, side, changes, seen_at) VALUES (of_migration, of_side, new_changes, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET changes = excluded.changes, seen_at = excluded.seen_at;
    RETURN before;
END $function$;

CREATE OR REPLACE FUNCTION migrator.see_columns_again(of_migration text, of_config_hash text, of_side text, same_changes jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require('operator', of_migration);
    UPDATE migrator.columns_seen c SET seen_at = clock_timestamp() FROM migrator.migrations m
    WHERE m.name = of_migration AND m.config_hash = of_config_hash AND c.migration = m.name AND c.side = of_side AND c.changes = same_changes;
    RETURN FOUND;
END $function$;

CREATE OR REPLACE FUNCTION migrator.see_servers(of_migration text, of_side text, was text, is_now text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    INSERT INTO migrator.servers_seen AS s (migration, side, seen, seen_at) VALUES (of_migration, of_side, is_now, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET seen = excluded.seen, seen_at = excluded.seen_at WHERE s.seen = was
$function$;

CREATE OR REPLACE FUNCTION migrator.server()
 RETURNS text
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE system text := 'unknown';
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    IF has_function_privilege('pg_control_system()', 'EXECUTE') THEN
        SELECT system_identifier::text INTO system FROM pg_control_system();
    END IF;
    RETURN 'system ' || system || ', timeline ' || ('x' || left(pg_walfile_name('0/1'), 8))::bit(32)::int8;
END $function$;

CREATE OR REPLACE FUNCTION migrator.settle(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    UPDATE migrator.epochs e SET settled_at = clock_timestamp() FROM migrator.migrations m
        WHERE m.name = of_migration AND e.migration = m.name AND e.epoch = m.epoch AND e.settled_at IS NULL
          AND NOT EXISTS (SELECT FROM migrator.leases l WHERE l.migration = m.name AND (l.ended_at IS NULL OR l.ended_at > clock_timestamp())
                          AND (l.acknowledged_epoch < m.epoch OR l.expires_at <= clock_timestamp()));
END $function$;

CREATE OR REPLACE FUNCTION migrator.shadow_of(m migrator.migrations)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    RETURN CASE WHEN m.phase IN ('cutover', 'grace') THEN m.config #>> ARRAY['phases', m.phase::text, 'shadow'] END;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_approval()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    decider text := migrator.decider(NEW.migration);
BEGIN
    IF decider <> '' THEN
        NEW.role := decider;
    END IF;
    PERFORM migrator.require_member(NEW.role, 'approve');
    NEW.actor := migrator.person();
    NEW.at := clock_timestamp();
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_backfill()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF migrator.owns() THEN
        NEW.actor := CASE TG_OP WHEN 'INSERT' THEN migrator.person() ELSE NEW.actor END;
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := migrator.person();
        NEW.began_at := clock_timestamp();
        NEW.finished_at := NULL;
        NEW.void_at := NULL;
        SELECT epoch INTO NEW.epoch FROM migrator.migrations WHERE name = NEW.migration;
    ELSIF NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL THEN
        NEW.finished_at := clock_timestamp();
    ELSIF NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
        RAISE EXCEPTION 'backfill % is finished', OLD.id USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_delivery()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT migrator.owns() THEN
        NEW.attempts := greatest(NEW.attempts, OLD.attempts);
        NEW.next_at := least(NEW.next_at, clock_timestamp() + interval '1 day');
        NEW.delivered_at := CASE WHEN NEW.delivered_at IS NOT NULL THEN clock_timestamp() END;
        NEW.failure := left(NEW.failure, 10000);
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_drill()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF migrator.owns() THEN
            RETURN NEW;
        ELSIF OLD.finished_at IS NOT NULL THEN
            RAISE EXCEPTION 'drill % is finished', OLD.id USING ERRCODE = 'insufficient_privilege';
        END IF;
        NEW.finished_at := CASE WHEN NEW.finished_at IS NOT NULL THEN clock_timestamp() END;
        RETURN NEW;
    END IF;
    NEW.actor := migrator.person();
    IF migrator.owns() THEN
        RETURN NEW;
    END IF;
    IF NEW.digest IS NOT NULL THEN
        NEW.imported_at := clock_timestamp();
        IF NEW.finished_at > clock_timestamp() OR NEW.began_at > NEW.finished_at THEN
            RAISE EXCEPTION 'a drill with times that can''t be' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    ELSE
        NEW.began_at := clock_timestamp();
        NEW.finished_at := NULL;
        NEW.passed := false;
        SELECT environment, config_hash INTO NEW.environment, NEW.config_hash FROM migrator.migrations WHERE name = NEW.migration;
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_evaluation()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.actor := migrator.person();
    IF NOT migrator.owns() THEN
        NEW.at := clock_timestamp();
        IF NEW.epoch > (SELECT epoch FROM migrator.migrations WHERE name = NEW.migration) OR length(NEW.name) > 200 OR length(NEW.detail) > 10000 THEN
            RAISE EXCEPTION 'an evaluation that can''t be' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_run()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF migrator.owns() THEN
        NEW.actor := CASE TG_OP WHEN 'INSERT' THEN migrator.person() ELSE NEW.actor END;
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := migrator.person();
        NEW.began_at := clock_timestamp();
        NEW.finished_at := NULL;
        NEW.status := 'running';
        SELECT epoch, config_hash INTO NEW.epoch, NEW.config_hash FROM migrator.migrations WHERE name = NEW.migration;
        RETURN NEW;
    END IF;
    IF OLD.status IN ('done', 'cancelled') AND NEW IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'run % is %', OLD.id, OLD.status USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.finished_at IS NOT NULL AND NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN
        NEW.finished_at := clock_timestamp();
    END IF;
    IF NEW.said_by NOT IN ('', OLD.said_by) THEN
        NEW.said_by := migrator.person();
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_runbook_run()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the runs of runbooks are kept';
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := migrator.person();
        NEW.began_at := clock_timestamp();
    ELSIF (NEW.id, NEW.uid, NEW.migration, NEW.runbook, NEW.title, NEW.path, NEW.source, NEW.source_hash, NEW.epoch, NEW.config_hash, NEW.actor, NEW.began_at)
        IS DISTINCT FROM (OLD.id, OLD.uid, OLD.migration, OLD.runbook, OLD.title, OLD.path, OLD.source, OLD.source_hash, OLD.epoch, OLD.config_hash, OLD.actor, OLD.began_at) THEN
        RAISE EXCEPTION 'what run % of a runbook runs, and who began it, can''t be changed', OLD.id;
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_runbook_step()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    of_run migrator.runbook_runs;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the steps of a runbook''s run are kept';
    END IF;
    SELECT * INTO of_run FROM migrator.runbook_runs WHERE id = NEW.run;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := migrator.person();
        NEW.intent_at := clock_timestamp();
    ELSIF OLD.outcome IS NOT NULL THEN
        RAISE EXCEPTION 'step % of run % has its outcome already: %', OLD.step, OLD.run, OLD.outcome USING ERRCODE = 'MG012';
    ELSIF (NEW.run, NEW.step, NEW.direction, NEW.attempt, NEW.kind, NEW.block, NEW.intent, NEW.intent_at, NEW.actor, NEW.seq)
        IS DISTINCT FROM (OLD.run, OLD.step, OLD.direction, OLD.attempt, OLD.kind, OLD.block, OLD.intent, OLD.intent_at, OLD.actor, OLD.seq) THEN
        RAISE EXCEPTION 'the intent of step % of run % can''t be changed', OLD.step, OLD.run;
    END IF;
    IF NEW.outcome IS NULL THEN
        RETURN NEW;
    END IF;
    NEW.ended_by := migrator.person();
    NEW.outcome_at := clock_timestamp();
    IF NEW.kind = 'approve' THEN
        PERFORM migrator.require_member(migrator.decider(of_run.migration), 'approve');
        PERFORM migrator.require_member(coalesce(NEW.intent ->> 'role', ''), 'approve');
        IF coalesce((NEW.intent ->> 'two_people')::boolean, false) AND NEW.outcome = 'done' AND of_run.actor = migrator.person() THEN
            RAISE EXCEPTION 'step % needs two people: % began the run; try: migrator runbook approve, as another person', NEW.step, migrator.person() USING ERRCODE = 'MG010';
        END IF;
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_verification()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.actor := migrator.person();
    IF NOT migrator.owns() THEN
        NEW.at := clock_timestamp();
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.signed(evidence jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE t migrator.tokens := migrator.bearer();
BEGIN
    IF jsonb_typeof(evidence) = 'object' THEN
        evidence := evidence - 'via';
    END IF;
    IF t.id IS NULL THEN
        RETURN evidence;
    END IF;
    RETURN CASE jsonb_typeof(evidence) WHEN 'object' THEN evidence ELSE '{}' END || jsonb_build_object('via', jsonb_build_object('role', session_user, 'token', t.id));
END $function$;

CREATE OR REPLACE FUNCTION migrator.suspect_state(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT migrator.require('operator', of_migration);
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500),
           return_lost = return_lost OR phase IN ('fenced', 'lifting', 'returning', 'retain')
    WHERE name = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.take_reads_back(of_migration text, write_epoch bigint, reason text)
 RETURNS TABLE(phase text, percent integer, epoch bigint, undone text, held_phase text, held_percent integer, held_epoch bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
    m migrator.migrations;
    held record;
    undone text := '';
BEGIN
    PERFORM migrator.require_fleet(of_migration);
    -- [held-routes]: the row is locked exclusively: the route, the attempt and the live routes are read and decided on as one.
    PERFORM pg_advisory_xact_lock(hashtextextended('migrator route ' || of_migration, 0));
    SELECT * INTO m FROM migrator.migrations WHERE name = of_migration FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT r.* INTO held FROM migrator.conflict_of(of_migration) r;
    -- [fence-attempt]: dual-read behind a fence would be a route whose writes legacy refuses and that no command lifts.
    IF m.phase IN ('legacy', 'shadow-write', 'dual-read') THEN
        undone := 'legacy';
    ELSIF m.phase NOT IN ('cutover', 'grace') OR m.attempt <> '' THEN
        undone := 'moves';
    ELSIF held.phase IS NOT NULL THEN
        undone := 'held';
    ELSE
        PERFORM migrator.rescue(of_migration, m.epoch, reason, jsonb_build_object('write_epoch', write_epoch));
    END IF;
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch, undone, held.phase, held.percent, held.epoch;
END $function$;

CREATE OR REPLACE FUNCTION migrator.tell()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    event text := CASE
        WHEN NEW.cause IN ('trigger', 'failure') THEN 'rolled-back'
        WHEN NEW.cause = 'acknowledge' THEN 'acknowledged'
        WHEN NEW.cause = 'pause' THEN 'paused'
        WHEN NEW.cause = 'resume' THEN 'resumed'
        WHEN jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN 'overridden'
        WHEN NEW.to_epoch <> NEW.from_epoch THEN 'moved'
    END;
BEGIN
    IF event IS NOT NULL THEN
        INSERT INTO migrator.outbox (migration, event, seq, at) VALUES (NEW.migration, event, NEW.seq, NEW.at);
    END IF;
    RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION migrator.transition(of_name text, from_epoch bigint, new_phase text, new_percent integer, of_cause text, why text, of_evidence jsonb, of_attempt text, of_fence_era bigint, of_first_fence_era bigint, return_keys bigint, accept_missing bigint, sets_aside boolean, reclaim boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    m      migrator.migrations;
    number bigint;
BEGIN
    PERFORM migrator.require('operator', of_name);
    -- A comparison with NULL is neither true nor false: a check below would let it pass.
    IF num_nulls(of_name, from_epoch, new_phase, new_percent, of_cause, why, of_evidence, of_attempt, of_fence_era, of_first_fence_era, return_keys,
                 accept_missing, sets_aside, reclaim) > 0 THEN
        RAISE EXCEPTION 'a step has no part that is NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT * INTO STRICT m FROM migrator.migrations WHERE name = of_name FOR UPDATE;
    IF NOT migrator.lawful_step(m.phase, m.percent, new_phase, new_percent, of_cause, reclaim) THEN
        RAISE EXCEPTION 'no step of the cause % leads from % (%) to % (%)', of_cause, m.phase, m.percent, new_phase, new_percent
            USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF of_fence_era NOT BETWEEN 0 AND 4294967295 OR of_first_fence_era NOT BETWEEN 0 AND 4294967295 OR accept_missing < 0 OR length(of_attempt) > 100 THEN
        RAISE EXCEPTION 'an era or an attempt that can''t be' USING ERRCODE = 'invalid_parameter_value';
    ELSIF NOT reclaim AND m.attempt <> '' AND m.phase = 'grace' AND new_phase NOT IN ('fenced', 'lifting') THEN
        -- [fence-attempt]: the fence of an attempt recorded in grace may be raised already.
        RAISE EXCEPTION 'a fence may stand on legacy (attempt %)', m.attempt USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- A rollback by a trigger rests on an evaluation that can be shown later.
    IF (of_cause = 'trigger') <> (of_evidence ? 'fired') OR of_cause = 'trigger' AND NOT EXISTS (SELECT FROM migrator.evaluations
            WHERE id = (of_evidence #>> '{fired,evaluation}')::bigint AND migration = of_name AND kind = 'trigger'
              AND name = of_evidence #>> '{fired,trigger}' AND verdict = 'firing' AND NOT dry_run) THEN
        RAISE EXCEPTION 'a rollback by a trigger, and no other move, names the evaluation that fired' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF jsonb_path_exists(of_evidence, '$.gates[*] ? (@.overridden != "")') THEN
        of_evidence := of_evidence || jsonb_build_object('decider', migrator.decider(of_name)); -- the role by which the actor may
    END IF;
    number := migrator.move(of_name, from_epoch, new_phase, new_percent, of_cause, left(why, 10000), of_evidence, of_attempt, of_fence_era);
    IF new_phase = 'returning' THEN
        PERFORM migrator.accept_missing(of_name, accept_missing), migrator.hold_return(of_name, return_keys, sets_aside);
    END IF;
    IF of_first_fence_era > 0 THEN
        PERFORM migrator.first_fenced(of_name, of_first_fence_era);
    END IF;
    IF reclaim THEN
        -- [loss-unclean]: a mark of its own, since a reclaim may follow a restore that no instance
        -- has reported. [reclaim-scan]: return_lost makes the return scan the target, also if
        -- another command resumes it.
        UPDATE migrator.migrations SET reclaimed_at = clock_timestamp(), return_lost = new_phase = 'returning' WHERE name = of_name;
    ELSIF new_phase = 'grace' THEN
        UPDATE migrator.migrations SET return_lost = false, return_accepted = 0 WHERE name = of_name AND (return_lost OR return_accepted > 0);
    END IF;
    -- Leases that ended long ago are deleted. [unclean-mark]: a lease with a mark stays, however old.
    DELETE FROM migrator.leases WHERE migration = of_name AND ended_at < clock_timestamp() - interval '30 days' AND lost_at IS NULL;
    RETURN number;
END $function$;

CREATE OR REPLACE FUNCTION migrator.wake_sender()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '100ms'
AS $function$
DECLARE
    sender text := 'webhooks_' || left(encode(sha256(convert_to(NEW.migration, 'UTF8')), 'hex'), 16);
BEGIN
    INSERT INTO migrator_river.river_job (kind, queue, args) VALUES ('webhooks', sender, jsonb_build_object('migration', NEW.migration));
    PERFORM pg_notify('migrator_river.river_insert', json_build_object('queue', sender)::text);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'migrator: no wake-up for message % of %: %', NEW.id, NEW.migration, SQLERRM;
    RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION migrator.what_matters(config jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT config - ARRAY['fleet', 'backfill', 'capture', 'throttle', 'reconcile', 'compare', 'exclude', 'phases'] || jsonb_build_object(
            'phases', coalesce(config -> 'phases', '{}') - ARRAY['dual_read', 'cutover', 'grace'] || jsonb_build_object(
                'dual_read', coalesce(config #> '{phases,dual_read}', '{}') - 'auto',
                'cutover', coalesce(config #> '{phases,cutover}', '{}') - 'auto' - 'shadow',
                'grace', coalesce(config #> '{phases,grace}', '{}') - 'shadow'),
            'reconcile', jsonb_build_object('pause', config #> '{reconcile,pause}', 'rereads', config #> '{reconcile,rereads}'),
            'capture', config #> '{capture,mode}',
            'exclude', (SELECT jsonb_agg(e ORDER BY e::text) FROM jsonb_array_elements(CASE jsonb_typeof(config -> 'exclude') WHEN 'array' THEN config -> 'exclude' END) e),
            'compare', (SELECT jsonb_agg(CASE WHEN coalesce(r ->> 'ignore', '') <> '' THEN jsonb_set(r - 'show', '{ignore}', '"yes"') ELSE r - 'show' END ORDER BY r ->> 'path', r::text)
                FROM jsonb_array_elements(CASE jsonb_typeof(config -> 'compare') WHEN 'array' THEN config -> 'compare' END) r
                WHERE coalesce(r ->> 'ignore', '') <> '' OR coalesce(r ->> 'tolerance', '') <> '' OR coalesce(r ->> 'precision', '0') <> '0' OR coalesce(r ->> 'as', '') <> ''))
$function$;

CREATE OR REPLACE FUNCTION migrator.witness(in_migration text, in_epoch bigint, in_phase text, in_percent integer, in_instance text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
    present bigint;
BEGIN
    PERFORM migrator.require_fleet(in_migration);
    SELECT epoch INTO STRICT present FROM migrator.migrations WHERE name = in_migration FOR SHARE;
    IF in_epoch > present + 1000000 THEN -- a mistaken or hostile one must not use the numbers up
        RAISE EXCEPTION 'migration % is in epoch %: epoch % can not be', in_migration, present, in_epoch
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF in_percent NOT BETWEEN 0 AND 10000 OR (in_phase IN ('dual-read', 'cutover')) <> (in_percent > 0) THEN
        RAISE EXCEPTION 'there is no route % at % of 10000', in_phase, in_percent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF in_epoch > present THEN
        INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at, witnessed_at, witness)
            VALUES (in_migration, in_epoch, in_phase, in_percent, clock_timestamp(), clock_timestamp(), migrator.one_line(in_instance, 200))
            ON CONFLICT DO NOTHING;
    END IF;
END $function$;
