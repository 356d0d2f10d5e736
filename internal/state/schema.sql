-- The state database as its migrations leave it: what each table and function is now,
-- whichever migration changed it last. Generated from the catalogue by go generate, and
-- checked by TestSchemaFile; the job queue's own schema is its library's.

CREATE DOMAIN migrator.phase AS text CONSTRAINT phase_check CHECK ((VALUE = ANY (ARRAY['legacy'::text, 'shadow-write'::text, 'dual-read'::text, 'cutover'::text, 'grace'::text, 'retain'::text, 'complete'::text, 'fenced'::text, 'lifting'::text, 'returning'::text])));

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
    CONSTRAINT grants_kind_check CHECK ((kind = ANY (ARRAY['application'::text, 'operator'::text, 'decider'::text, 'viewer'::text]))),
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

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON migrator.evaluations FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER keep BEFORE DELETE ON migrator.evaluations FOR EACH ROW EXECUTE FUNCTION migrator.keep_evaluation();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.forgotten FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON migrator.history FOR EACH STATEMENT EXECUTE FUNCTION migrator.refuse_change();

CREATE TRIGGER chain BEFORE INSERT ON migrator.history FOR EACH ROW EXECUTE FUNCTION migrator.chain_history();

CREATE TRIGGER check_people BEFORE INSERT ON migrator.history FOR EACH ROW EXECUTE FUNCTION migrator.check_people();

CREATE TRIGGER tell AFTER INSERT ON migrator.history FOR EACH ROW EXECUTE FUNCTION migrator.tell();

CREATE TRIGGER check_lease BEFORE INSERT OR UPDATE OF acknowledged_epoch, moves ON migrator.leases FOR EACH ROW EXECUTE FUNCTION migrator.check_lease();

CREATE TRIGGER refuse_join BEFORE INSERT ON migrator.leases FOR EACH ROW EXECUTE FUNCTION migrator.refuse_join();

CREATE TRIGGER keep_epochs_rising BEFORE UPDATE ON migrator.migrations FOR EACH ROW EXECUTE FUNCTION migrator.keep_epochs_rising();

CREATE TRIGGER wake_sender AFTER INSERT ON migrator.outbox FOR EACH ROW EXECUTE FUNCTION migrator.wake_sender();

CREATE TRIGGER number_change BEFORE INSERT OR UPDATE OF changes ON migrator.return_journal FOR EACH ROW EXECUTE FUNCTION migrator.number_change();

CREATE TRIGGER sign BEFORE INSERT OR DELETE OR UPDATE ON migrator.runbook_runs FOR EACH ROW EXECUTE FUNCTION migrator.sign_runbook_run();

CREATE TRIGGER sign BEFORE INSERT OR DELETE OR UPDATE ON migrator.runbook_steps FOR EACH ROW EXECUTE FUNCTION migrator.sign_runbook_step();

CREATE OR REPLACE FUNCTION migrator.accept_missing(of_migration text, records bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    UPDATE migrator.migrations SET return_accepted = records WHERE name = of_migration AND phase = 'returning';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lost records are accepted only for a return that is in progress' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $function$;

CREATE OR REPLACE FUNCTION migrator.allow_set_aside(of_migration text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
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

CREATE OR REPLACE FUNCTION migrator.begin_return(of_migration text, at_epoch bigint, to_legacy text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require_return(of_migration, at_epoch, 'retain', 'returning');
    INSERT INTO migrator.returns AS r (migration, legacy) VALUES (of_migration, to_legacy)
        ON CONFLICT (migration) DO UPDATE SET legacy = to_legacy,
            copied = CASE WHEN r.legacy = to_legacy THEN r.copied ELSE r.floor END;
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
    NEW.actor := session_user;
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
    approval   json;
BEGIN
    IF jsonb_path_exists(NEW.evidence, '$.gates[*] ? (@.overridden != "")') THEN
        PERFORM migrator.require_member(migrator.decider(NEW.migration), 'override a gate');
    END IF;
    IF (array_position(way, NEW.to_phase::text) > array_position(way, NEW.from_phase::text)) IS NOT TRUE OR NEW.from_phase = 'fenced' THEN
        RETURN NEW;
    END IF;
    SELECT config #> '{phases,approval}' INTO approval FROM migrator.migrations WHERE name = NEW.migration;
    IF NOT coalesce((approval -> 'two_people')::jsonb ? into_phase AND (approval -> 'for')::jsonb ? into_phase, false) THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (SELECT FROM migrator.approvals a
                   WHERE a.migration = NEW.migration AND a.to_phase = into_phase AND a.epoch = NEW.from_epoch
                     AND a.config_hash = NEW.config_hash AND a.expires_at > clock_timestamp() AND a.actor <> session_user) THEN
        RAISE EXCEPTION '% needs two people: nobody but % has approved it in this epoch, under this configuration; try: migrator phase approve, as somebody else',
            into_phase, session_user USING ERRCODE = 'MG011';
    END IF;
    RETURN NEW;
END $function$;

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

CREATE OR REPLACE FUNCTION migrator.finalize_return(of_migration text, at_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM migrator.require_return(of_migration, at_epoch, 'returning');
    UPDATE migrator.returns SET final = true WHERE migration = of_migration;
END $function$;

CREATE OR REPLACE FUNCTION migrator.find_target(of_migration text, of_incarnation text)
 RETURNS boolean
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
                     WHERE g.kind = 'application' AND g.migration IN ('*', of_migration) AND pg_has_role(session_user, r.oid, 'MEMBER')
                     ORDER BY g.role <> session_user, g.role LIMIT 1), session_user);
END $function$;

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
    IF of_role IS NULL OR of_role = session_user THEN
        RETURN true;
    END IF;
    RETURN EXISTS (SELECT FROM pg_roles r WHERE r.rolname = of_role AND pg_has_role(session_user, r.oid, 'MEMBER'));
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
    IF OLD.at > clock_timestamp() - interval '7 days' THEN
        RAISE EXCEPTION 'evaluation % is younger than a week: DELETE is refused', OLD.id
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END $function$;

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
    DELETE FROM migrator.return_journal WHERE migration = of_migration AND key = ANY (keys);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE migrator.returns SET total = greatest(total - gone, 0) WHERE migration = of_migration;
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

CREATE OR REPLACE FUNCTION migrator.lose_legacy(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
    UPDATE migrator.migrations SET unclean_at = clock_timestamp(), unclean_why = left(why, 500) WHERE name = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.may(of_kind text, of_migration text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    -- A row of a role that was dropped joins nothing.
    IF EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
               WHERE (g.kind = of_kind OR of_kind = 'viewer' AND g.kind IN ('operator', 'decider'))
                 AND g.migration IN ('*', of_migration) AND pg_has_role(session_user, r.oid, 'MEMBER')) THEN
        RETURN true;
    END IF;
    -- pg_has_role is true for a superuser, whatever the role.
    RETURN pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
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

CREATE OR REPLACE FUNCTION migrator.newest_change()
 RETURNS bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT last_value FROM migrator.return_changes
$function$;

CREATE OR REPLACE FUNCTION migrator.next_beat(of_migration text, of_incarnation text, had bigint, OUT next bigint, OUT confirmed bigint)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    UPDATE migrator.marks k SET
        confirmed = CASE WHEN had = k.beat THEN had ELSE k.confirmed END,
        confirmed_at = CASE WHEN had = k.beat AND had > k.confirmed THEN clock_timestamp() ELSE k.confirmed_at END,
        beat = k.beat + 1
    WHERE k.migration = of_migration AND k.incarnation = of_incarnation
    RETURNING k.beat, k.confirmed
$function$;

CREATE OR REPLACE FUNCTION migrator.note_fence(of_migration text, of_attempt text, new_mark text, lost boolean)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    INSERT INTO migrator.fences AS f (migration, attempt, mark, lost_at)
    VALUES (of_migration, of_attempt, new_mark, CASE WHEN lost THEN clock_timestamp() END)
    ON CONFLICT (migration) DO UPDATE SET attempt = of_attempt, mark = new_mark, lost_at = excluded.lost_at
    WHERE lost OR f.attempt <> of_attempt
$function$;

CREATE OR REPLACE FUNCTION migrator.note_parts(of_migration text, new_parts jsonb, new_changes text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    INSERT INTO migrator.parts AS p (migration, parts) VALUES (of_migration, new_parts)
    ON CONFLICT (migration) DO UPDATE SET parts = new_parts,
        changed = CASE WHEN new_changes IS NULL THEN ''
                       WHEN p.changed = '' THEN left(new_changes, 500)
                       WHEN length(p.changed) + length(new_changes) > 490 THEN left(p.changed, 490) || ' ...'
                       ELSE p.changed || '; ' || new_changes END,
        changed_at = CASE WHEN new_changes IS NOT NULL THEN clock_timestamp() END
$function$;

CREATE OR REPLACE FUNCTION migrator.note_return_rate(of_migration text, keys_per_second double precision)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    UPDATE migrator.returns SET rate = keys_per_second WHERE migration = of_migration
$function$;

CREATE OR REPLACE FUNCTION migrator.note_server()
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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

CREATE OR REPLACE FUNCTION migrator.place_mark(of_migration text, new_incarnation text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    INSERT INTO migrator.marks (migration, incarnation) VALUES (of_migration, new_incarnation)
    ON CONFLICT (migration) DO UPDATE SET incarnation = excluded.incarnation, beat = 0, confirmed = 0, confirmed_at = NULL, lost_at = NULL, lost = '',
        doubted_at = clock_timestamp()
$function$;

CREATE OR REPLACE FUNCTION migrator.prune_return(of_migration text, most integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE gone bigint;
BEGIN
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
        session_user, of_kind, of_migration, of_kind, quote_ident(session_user), of_migration USING ERRCODE = 'insufficient_privilege';
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
    IF NOT pg_has_role(session_user, in_role, 'MEMBER') THEN
        RAISE EXCEPTION '% is not a member of the role %: only its members may %; connect to the state database as one of them',
            session_user, in_role, in_may USING ERRCODE = 'MG010';
    END IF;
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
    RETURN QUERY SELECT m.phase::text, m.percent, m.epoch,
        ARRAY(SELECT r.phase FROM migrator.live_routes(of_migration) r), ARRAY(SELECT r.percent FROM migrator.live_routes(of_migration) r)
        FROM migrator.migrations m WHERE m.name = of_migration;
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
    SELECT changes INTO before FROM migrator.columns_seen WHERE migration = of_migration AND side = of_side;
    INSERT INTO migrator.columns_seen (migration, side, changes, seen_at) VALUES (of_migration, of_side, new_changes, clock_timestamp())
    ON CONFLICT (migration, side) DO UPDATE SET changes = excluded.changes, seen_at = excluded.seen_at;
    RETURN before;
END $function$;

CREATE OR REPLACE FUNCTION migrator.see_servers(of_migration text, of_side text, was text, is_now text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
    NEW.actor := session_user;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.sign_runbook_run()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the runs of runbooks are kept';
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.actor := session_user;
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
        NEW.actor := session_user;
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
    NEW.ended_by := session_user;
    NEW.outcome_at := clock_timestamp();
    IF NEW.kind = 'approve' THEN
        PERFORM migrator.require_member(migrator.decider(of_run.migration), 'approve');
        PERFORM migrator.require_member(coalesce(NEW.intent ->> 'role', ''), 'approve');
        IF coalesce((NEW.intent ->> 'two_people')::boolean, false) AND NEW.outcome = 'done' AND of_run.actor = session_user THEN
            RAISE EXCEPTION 'step % needs two people: % began the run; connect to the state database as somebody else', NEW.step, session_user USING ERRCODE = 'MG011';
        END IF;
    END IF;
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION migrator.suspect_state(of_migration text, why text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
