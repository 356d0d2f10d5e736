package mutate

// mutants are in the order of docs/protocol.md.
var mutants = []mutant{
	{
		rule: "version-at-lock", what: "the version is computed when the statement is planned",
		file: "store/postgres/version.go",
		old: `migrator_legacy.version(migration text) RETURNS text
LANGUAGE sql VOLATILE`,
		new: `migrator_legacy.version(migration text) RETURNS text
LANGUAGE sql IMMUTABLE`,
		pkg: "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "version-timeline", what: "the LSN counts before the timeline",
		file: "record/version.go",
		old:  "case v.high != w.high:",
		new:  "case false:",
		pkg:  "record", run: "^TestVersionsOrderLikeTheirTexts$",
	},
	{
		rule: "version-era", what: "the era does not count",
		file: "record/version.go",
		old:  "case v.era != w.era:",
		new:  "case false:",
		pkg:  "record", run: "^TestNextVersionGrows$",
	},
	{
		rule: "system-era", what: "another server begins no era",
		file: "store/postgres/system_identifier.go",
		old:  `if known != "" {`,
		new:  `if false {`,
		pkg:  "store/postgres", run: "^TestAnotherServerStartsAnEra$",
	},
	{
		rule: "newer-only", what: "the script applies older writes",
		file: "store/redis/scripts/apply.lua",
		old: `    return 'older', current
  end

  local function remember`,
		new: `  end

  local function remember`,
		pkg: "store/redis", run: "^TestConformance$",
	},
	{
		rule: "newer-only", what: "the table takes older writes",
		file: "store/postgres/target_apply.go",
		old:  "case w.Only == nil && !w.Version.NewerThan(s.version), s.version.NewerThan(w.Version) && !w.Overwrite:",
		new:  "case false:",
		pkg:  "store/postgres", run: "^TestTargetConformance$",
	},
	{
		rule: "owned-only", what: "the script replaces values without version",
		file: "store/redis/scripts/apply.lua",
		old:  "if owner == 'foreign' and not overwrite then",
		new:  "if false then",
		pkg:  "store/redis", run: "^TestConformance$",
	},
	{
		rule: "owned-only", what: "a delete removes another program's value from Redis",
		file: "store/redis/scripts/apply.lua",
		old:  "if deleted and owner == 'foreign' then",
		new:  "if false then",
		pkg:  "store/redis", run: "^TestConformance$",
	},
	{
		rule: "owned-only", what: "a delete removes another program's row from a table",
		file: "store/postgres/target_apply.go",
		old:  "case s.foreign() && w.Deleted:",
		new:  "case false:",
		pkg:  "store/postgres", run: "^TestTargetConformance$",
	},
	{
		rule: "primary-only", what: "a cluster's replicas are read",
		file: "store/redis/url.go",
		old:  "o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false",
		new:  "o.ReadOnly, o.RouteByLatency, o.RouteRandomly = true, false, true",
		pkg:  "store/redis", run: "^TestReplicasAreNeverRead$",
	},
	{
		rule: "not-after", what: "a repair carries no time",
		file: "internal/repair/decide.go",
		old:  "w := store.Write{Key: row.Key, NotAfter: notAfter, Overwrite: true}",
		new:  "w := store.Write{Key: row.Key, Overwrite: true}",
		pkg:  "internal/repair", run: "^TestRepairThatComesLateReadsAgain$",
	},
	{
		rule: "not-after", what: "the script takes late writes",
		file: "store/redis/scripts/apply.lua",
		old:  "if late ~= '' and clock[1] * 1000000 + clock[2] > tonumber(late) then",
		new:  "if false then",
		pkg:  "store/redis", run: "^TestConformance$",
	},
	{
		rule: "not-after-fixed", what: "a retry extends the time",
		file: "dual/apply.go",
		old:  "err = w.try(ctx, c, ApplyOptions{NotAfter: notAfter}, e, attempt > 0)",
		new:  "err = w.try(ctx, c, ApplyOptions{NotAfter: notAfter.Add(time.Duration(attempt) * time.Hour)}, e, attempt > 0)",
		pkg:  "dual", run: "^TestRetriesKeepNotAfter$",
	},
	{
		rule: "not-after-applied", what: "an instance takes as long as it likes",
		file: "dual/applied.go",
		old:  "w.NotAfter = min(i.own.NotAfter, w.NotAfter)",
		new:  "w.NotAfter = i.own.NotAfter",
		pkg:  "dual", run: "^TestOwnNotAfterIsNotLongerThanApplied$",
	},
	{
		rule: "tombstone", what: "tombstones may be short",
		file: "phases/timing.go",
		old:  "if t.Tombstones/TombstoneShare < t.NotAfter {",
		new:  "if t.Tombstones < t.NotAfter {",
		pkg:  "phases", run: "^TestTimingValidateNamesInvalidTimes$",
	},
	{
		rule: "tombstone", what: "a delete leaves no version",
		file: "store/redis/scripts/apply.lua",
		old: `    redis.call('UNLINK', key)
    remember()`,
		new: "    redis.call('UNLINK', key)",
		pkg: "store/redis", run: "^TestConformance$",
	},
	{
		rule: "expiry-version", what: "the version expires with its record",
		file: "store/redis/scripts/apply.lua",
		old: `      from = tonumber(expires)
`,
		new: "",
		pkg: "store/redis", run: "^TestExpiryIsARedisExpiry$",
	},
	{
		rule: "all-keys", what: "one record of a write is applied",
		file: "dual/writer.go",
		old:  "entries, cause := w.applyAll(p.attempt(ctx, writeTarget), p.h, changes, notAfter, clockErr)",
		new:  "entries, cause := w.applyAll(p.attempt(ctx, writeTarget), p.h, changes[:1], notAfter, clockErr)",
		pkg:  "dual", run: "^TestChangesAreComparedWithKeys$",
	},
	{
		rule: "columns-applied", what: "a store moves what the table has today",
		file: "store/postgres/legacy.go",
		old:  "	if m.Schema != nil {",
		new:  "	if false {",
		pkg:  "internal/test/cases", run: "^TestDDLAfterTheEvidence$",
	},
	{
		rule: "columns-applied", what: "evidence is not bound to the columns",
		file: "migration/hash.go",
		old:  "	if m.Schema != nil {",
		new:  "	if false {",
		pkg:  "internal/test/cases", run: "^TestAColumnIsAddedInEachPhase$/^dual-read$",
	},
	{
		rule: "columns-watched", what: "a changed column leaves no mark",
		file: "internal/state/columns.go",
		old:  "		if !reflect.DeepEqual(broken(before), broken(now)) &&",
		new:  "		if false &&",
		pkg:  "internal/test/cases", run: "^TestColumnsThatChangeMakeUnclean$",
	},
	{
		rule: "columns-watched", what: "a step forward does not look",
		file: "internal/control/advance.go",
		old:  "	if c.Look != nil {",
		new:  "	if false {",
		pkg:  "internal/test/cases", run: "^TestColumnsThatChangeMakeUnclean$",
	},
	{
		rule: "columns-watched", what: "a step forward is taken beside a changed column",
		file: "phases/columns.go",
		old:  "g.Verdict, g.Detail, g.Hint = Fail, ",
		new:  "g.Verdict, g.Detail, g.Hint = Pass, ",
		pkg:  "internal/test/cases", run: "^TestColumnsThatChangeMakeUnclean$",
	},
	{
		rule: "backfill-barrier", what: "the barrier takes no lock",
		file: "store/postgres/barrier.go",
		old:  `timeout, "SHARE", func`,
		new:  `timeout, "ACCESS SHARE", func`,
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "backfill-reentry", what: "a backfill from before the last stay in legacy counts",
		file: "phases/gates.go",
		old:  "case b == nil || b.Epoch <= e.Status.LegacyEpoch:",
		new:  "case b == nil:",
		pkg:  "phases", run: "^TestGateVerdicts$",
	},
	{
		rule: "backfill-alone", what: "a run without its lock saves",
		file: "internal/statedb/lock.go",
		old:  "if err != nil || !got {",
		new:  "if err != nil {",
		pkg:  "internal/state", run: "^TestARunnerThatLostItsLockCanNotSave$",
	},
	{
		rule: "backfill-moved", what: "rewritten storage is read on",
		file: "store/postgres/chunks.go",
		old:  "if file != p.File {",
		new:  "if false {",
		pkg:  "store/postgres", run: "^TestMovedRows$",
	},
	{
		rule: "backfill-moved", what: "rewritten storage is not cut again",
		file: "internal/backfill/backfill.go",
		old: `			r.p.Chunks = nil
`,
		new: ``,
		pkg: "internal/backfill", run: "^TestBackfillStartsOverWhenTheTableIsRewritten$",
	},
	{
		rule: "backfill-wait", what: "the sweep does not wait",
		file: "internal/backfill/backfill.go",
		old:  "if left <= 0 {",
		new:  "if true {",
		pkg:  "internal/backfill", run: "^TestBackfillWaitsUntilEveryWriteFromBeforeItsBarrierIsOver$",
	},
	{
		rule: "backfill-newer", what: "bulk loading overwrites what is known",
		file: "store/redis/scripts/fill.lua",
		old:  "local new = redis.call('EXISTS', unpack(KEYS)) == 0",
		new:  "local new = true",
		pkg:  "store/redis", run: "^TestConformance$",
	},
	{
		rule: "backfill-sweep", what: "stale keys are not read again",
		file: "store/redis/stale.go",
		old:  "if entries[i].IsStale(than) {",
		new:  "if true {",
		pkg:  "store/redis", run: "^TestConformance$",
	},
	{
		rule: "backfill-sweep", what: "nothing is swept",
		file: "internal/backfill/backfill.go",
		old: `	if err := r.sweep(ctx); err != nil {
		return err
	}
`,
		new: "",
		pkg: "internal/backfill", run: "^TestBackfillIntoPostgres$",
	},
	{
		rule: "fields-barrier", what: "a backfill begins beside the columns of before",
		file: "internal/state/backfills/runs.go",
		old:  "	if len(others) > 0 {",
		new:  "	if false {",
		pkg:  "internal/test/cases", run: "^TestAColumnIsAddedInEachPhase$/^shadow-write$",
	},
	{
		rule: "fields-barrier", what: "an instance that moves the columns of before joins beside the backfill",
		file: "internal/state/migrations/00028_decisions.sql",
		old:  "UPDATE migrator.migrations SET former_moves = '', former_schema = NULL WHERE name = of_migration",
		new:  "UPDATE migrator.migrations SET former_moves = former_moves WHERE name = of_migration",
		pkg:  "internal/test/cases", run: "^TestAColumnIsAddedInEachPhase$/^shadow-write$",
	},
	{
		rule: "fields-filled", what: "a backfill of before counts",
		file: "phases/gates.go",
		old:  "case b.Epoch < e.Status.FieldsEpoch:",
		new:  "case false:",
		pkg:  "internal/test/cases", run: "^TestAColumnIsAddedInEachPhase$/^dual-read$",
	},
	{
		rule: "backfill-done", what: "reads move without a backfill",
		file: "phases/gates.go",
		old:  "gates = append(gates, gateBackfill(e, to.Phase != DualRead))",
		new:  "_ = gateBackfill",
		pkg:  "phases", run: "^TestInterlocksCantBeOverridden$",
	},
	{
		rule: "capture-barrier", what: "a backfill does not wait for capture",
		file: "internal/backfill/backfill.go",
		old: `		if !r.p.Barrier.NewerThan(passed) {
`,
		new: `		if !r.p.Barrier.IsZero() || !passed.IsZero() {
`,
		pkg: "internal/backfill", run: "^TestBackfillWaitsForCapture$",
	},
	{
		rule: "capture-barrier", what: "the wait counts from the barrier",
		file: "internal/backfill/backfill.go",
		old:  `p.Chunks, p.Done = version, time.Time{}, nil, 0`,
		new:  `p.Chunks, p.Done = version, time.Now(), nil, 0`,
		pkg:  "internal/backfill", run: "^TestBackfillWaitsForCapture$",
	},
	{
		rule: "capture-order", what: "a barrier without a slot",
		file: "internal/backfill/backfill.go",
		old: `				return fmt.Errorf("%w: %w", ErrNotReady, err)
`,
		new: `				_ = err
`,
		pkg: "internal/backfill", run: "^TestBackfillWaitsForCapture$",
	},
	{
		rule: "capture-passed", what: "another attempt's fence is enough",
		file: "phases/gate_capture.go",
		old:  `case c.Fence != attempt:`,
		new:  `case c.Fence == "":`,
		pkg:  "internal/control", run: "^TestRetainWaitsForCapture$",
	},
	{
		rule: "capture-passed", what: "a sweep may be due",
		file: "phases/gate_capture.go",
		old: `	case c.Sweeps > 0:
		return`,
		new: `	case c.Sweeps > 1:
		return`,
		pkg: "internal/control", run: "^TestRetainWaitsForCapture$",
	},
	{
		rule: "capture-passed", what: "what marks the migration on the way does not count",
		file: "phases/gate_capture.go",
		old:  `	if g := gateDirty(Route{Phase: Retain}, e); !g.Open() {`,
		new:  `	if g := gateDirty(Route{Phase: Retain}, e); g.Verdict == Error {`,
		pkg:  "internal/control", run: "^TestRetainWaitsForCapture$",
	},
	{
		rule: "capture-passed", what: "what was reported counts",
		file: "internal/state/capture.go",
		old:  `c.Slot, c.Fence, c.Barrier, c.Era, c.Sweeps = slot, fence,`,
		new:  `c.Slot, _, c.Barrier, c.Era, c.Sweeps = slot, fence,`,
		pkg:  "internal/state", run: "^TestWhatIsLostToCapture$",
	},
	{
		rule: "capture-returns", what: "a return begins without a slot",
		file: "internal/control/rollback.go",
		old:  `		if err := phases.CaptureReturns(c.Settings, e); err != nil {`,
		new:  `		if err := phases.CaptureReturns(phases.Settings{}, e); err != nil {`,
		pkg:  "internal/control", run: "^TestAReturnNeedsASlot$",
	},
	{
		rule: "capture-gated", what: "capture need not run",
		file: "phases/gate_capture.go",
		old:  `	case !c.Runs(e.Now):`,
		new:  `	case !c.Running && c.Error == "x":`,
		pkg:  "phases", run: "^TestGatesOfCapture$",
	},
	{
		rule: "capture-gated", what: "a capture that lags",
		file: "phases/gate_capture.go",
		old:  `	case time.Duration(c.Lag) > most || c.LagBytes > int64(bytes):`,
		new:  `	case time.Duration(c.Lag) > most && c.LagBytes > int64(bytes):`,
		pkg:  "phases", run: "^TestGatesOfCapture$",
	},
	{
		rule: "capture-reentry", what: "a backfill from before the loss counts",
		file: "phases/gates.go",
		old:  `	case e.Capture.LostSince(b.Began):`,
		new:  `	case e.Capture.LostSince(e.Now):`,
		pkg:  "phases", run: "^TestGatesOfCapture$",
	},
	{
		rule: "capture-reentry", what: "a backfill from before the loss is resumed",
		file: "internal/state/migrations/00042_capture_reentry.sql",
		old:  `        UPDATE migrator.backfills SET void_at = clock_timestamp() WHERE migration = of_migration AND finished_at IS NULL AND void_at IS NULL;`,
		new:  `        NULL;`,
		pkg:  "internal/state", run: "^TestWhatIsLostToCapture$",
	},
	{
		rule: "capture-reentry", what: "progress from before is saved",
		file: "internal/state/migrations/00042_capture_reentry.sql",
		old:  `        WHERE ended OR c.lost = '';`,
		new:  `        WHERE ended OR c.lost IS NOT NULL;`,
		pkg:  "internal/state", run: "^TestWhatIsLostToCapture$",
	},
	{
		rule: "capture-reentry", what: "reads stay with a target that nothing brings up to date",
		file: "phases/gate_capture.go",
		old:  `	case !covered && s.Capture == CaptureOnly && at.TriggersAct():`,
		new:  `	case !covered && s.Capture == CaptureOnly && at == Legacy:`,
		pkg:  "phases", run: "^TestReentry$",
	},
	{
		rule: "capture-awaited", what: "suspects are read at once",
		file: "reconcile/rechecker.go",
		old:  `		if r.caughtUp != nil {`,
		new:  `		if r.caughtUp != nil && round > 1000 {`,
		pkg:  "reconcile", run: "^TestWhatIsUnderWayIsNoDifference$",
	},
	{
		rule: "capture-shadowed", what: "a difference counts at once",
		file: "dual/shadow.go",
		old:  `	if !ok || h.uncaptured.Load() {`,
		new:  `	if ok || h.uncaptured.Load() {`,
		pkg:  "dual", run: "^TestADifferenceWaitsForCapture$",
	},
	{
		rule: "capture-shadowed", what: "it counts once capture has given up waiting",
		file: "dual/shadow.go",
		old:  `			return false, errCaptureLags`,
		new:  `			return true, nil`,
		pkg:  "dual", run: "^TestADifferenceWaitsForCapture$",
	},
	{
		rule: "capture-shadowed", what: "what legacy has committed since counts as brought",
		file: "internal/daemon/capture.go",
		old:  `		at, r.awaited.at = r.awaited.at, time.Time{}`,
		new:  `		at, r.awaited.at = time.Now(), time.Time{}`,
		pkg:  "internal/daemon", run: "^TestWhenCaptureHadCaughtUp$",
	},
	{
		rule: "capture-reduced", what: "the first state of a key wins",
		file: "internal/capture/transaction.go",
		old: `		c = c.after(earlier, !there)
		t.states[key] = c
`,
		new: `		if c = c.after(earlier, !there); there {
			c = earlier
		}
		t.states[key] = c
`,
		pkg: "internal/capture", run: "^TestSeveralChangesInATransaction$",
	},
	{
		rule: "capture-reduced", what: "what an earlier change has set is left out",
		file: "internal/capture/change.go",
		old: `			c.record[i] = earlier.record[i]
`,
		new: "",
		pkg: "internal/capture", run: "^TestUnchangedLargeValues$",
	},
	{
		rule: "capture-version", what: "a position from before the commit",
		file: "internal/capture/stream.go",
		old:  `uint64(t.commit))`,
		new:  `uint64(t.commit)-1<<20)`,
		pkg:  "internal/capture", run: "^TestTheVersionIsThatOfTheCommit$",
	},
	{
		rule: "capture-version", what: "the era of now",
		file: "internal/capture/stream.go",
		old:  `	at := record.MakeVersion(s.p.Era,`,
		new:  `	at := record.MakeVersion(s.p.Era+1,`,
		pkg:  "internal/capture", run: "^TestBehindAFenceNothingIsApplied$",
	},
	{
		rule: "capture-marked", what: "a raised era has no marker",
		file: "store/postgres/system_identifier.go",
		old: `	return era, l.mark(ctx, tx, Marker{Kind: MarkEra, Era: era})
`,
		new: `	return era, nil
`,
		pkg: "internal/capture", run: "^TestBehindAFenceNothingIsApplied$",
	},
	{
		rule: "capture-marked", what: "another program's message is a marker",
		file: "internal/capture/stream.go",
		old:  `	if mark.Proof != s.secret {`,
		new:  `	if mark.Kind == "" {`,
		pkg:  "internal/capture", run: "^TestBehindAFenceNothingIsApplied$",
	},
	{
		rule: "capture-fenced", what: "copies are applied",
		file: "internal/capture/stream.go",
		old:  `s.p.Era != 0 && s.p.Fence == ""`,
		new:  `s.p.Era != 0`,
		pkg:  "internal/capture", run: "^TestBehindAFenceNothingIsApplied$",
	},
	{
		rule: "capture-equal", what: "an equal version loses",
		file: "internal/capture/apply.go",
		old:  `case r.Outcome == store.Older && r.Version == i.version:`,
		new:  `case false:`,
		pkg:  "internal/capture", run: "^TestItsOwnWinsAtAnEqualVersion$",
	},
	{
		rule: "capture-kept", what: "an older state of the target is kept",
		file: "internal/capture/apply.go",
		old:  `before.NewerThan(e.Version)`,
		new:  `before.NewerThan(i.version)`,
		pkg:  "internal/capture", run: "^TestUnchangedLargeValues$",
	},
	{
		rule: "capture-truncated", what: "it is swept once",
		file: "internal/capture/truncate.go",
		old: `	a.sweeps = append(a.sweeps, s)
`,
		new: `	_ = append(a.sweeps, s)
`,
		pkg: "internal/capture", run: "^TestTruncate$",
	},
	{
		rule: "capture-truncated", what: "rows from before the TRUNCATE of a partition are applied",
		file: "internal/capture/transaction.go",
		old:  `c.locked = !c.deleted`,
		new:  `c.locked = c.locked || false`,
		pkg:  "internal/capture", run: "^TestPartitions$",
	},
	{
		rule: "capture-identity", what: "a table without one is published",
		file: "internal/capture/slot.go",
		old:  `	case without != "":`,
		new:  `	case false:`,
		pkg:  "internal/capture", run: "^TestReplicaIdentities$",
	},
	{
		rule: "capture-identity", what: "one without the key is read",
		file: "internal/capture/relation.go",
		old:  `at < 0 || !r.key[at] {`,
		new:  `at < 0 {`,
		pkg:  "internal/capture", run: "^TestReplicaIdentities$",
	},
	{
		rule: "capture-order", what: "the slot has no publication",
		file: "internal/capture/slot.go",
		old:  `"CREATE PUBLICATION "+id+`,
		new:  `"SELECT $$"+id+"$$ -- "+`,
		pkg:  "internal/capture", run: "^TestCaptureBringsChanges$",
	},
	{
		rule: "capture-progress", what: "a slot that was advanced is read",
		file: "internal/capture/slot.go",
		old:  `	case s.confirmed > p.Resume:`,
		new:  `	case false:`,
		pkg:  "internal/capture", run: "^TestALostSlot$",
	},
	{
		rule: "capture-progress", what: "an altered publication is read",
		file: "internal/capture/slot.go",
		old:  `	case published != p.Publication:`,
		new:  `	case published == "-":`,
		pkg:  "internal/capture", run: "^TestALostSlot$",
	},
	{
		rule: "capture-refused", what: "the record is left out",
		file: "internal/capture/apply.go",
		old: `			refused = append(refused, Refused{i.key, i.version, r.Err})
`,
		new: "",
		pkg: "internal/capture", run: "^TestARecordThatTheTargetRefuses$",
	},
	{
		rule: "capture-bounded", what: "the slot is kept",
		file: "internal/capture/capture.go",
		old:  `limit > 0 && s.held > limit {`,
		new:  `limit < 0 {`,
		pkg:  "internal/capture", run: "^TestASlotIsGivenUpBeforeItFillsTheDisk$",
	},
	{
		rule: "repair-row-lock", what: "a row is read without its lock",
		file: "store/postgres/lookup_locked.go",
		old:  `" FOR SHARE OF t" + policy + "`,
		new:  `"`,
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "repair-target-first", what: "legacy is read before the target",
		file: "internal/repair/plan.go",
		old: `	if s.Seen, err = f.Target.Get(ctx, keys); err != nil {
		return s, fmt.Errorf("read the target: %w", err)
	}
`,
		new: `	if s.Rows, err = f.Locker.LookupLocked(ctx, keys); err != nil {
		return s, err
	}
	if s.Seen, err = f.Target.Get(ctx, keys); err != nil {
		return s, fmt.Errorf("read the target: %w", err)
	}
	if true {
		return s, nil
	}
`,
		pkg: "internal/repair", run: "^TestRepairKeepsAnInsertThatCameBetween$",
	},
	{
		rule: "repair-target-first", what: "a row that legacy lacks is decided without the target",
		file: "internal/repair/repair.go",
		old:  "		if !row.Found {\n			// [repair-target-first]",
		new:  "		if false {\n			// [repair-target-first]",
		pkg:  "internal/repair", run: "^TestRepairCorrectsTheTarget$",
	},
	{
		rule: "repair-target-first", what: "a row that the target refused counts as repaired",
		file: "internal/repair/repair.go",
		old:  "if r.Err != nil || r.Outcome != store.Applied {\n			left",
		new:  "if r.Err != nil {\n			left",
		pkg:  "internal/repair", run: "^TestRepairCorrectsTheTarget$",
	},
	{
		rule: "not-after", what: "a row that is written unseen carries no time",
		file: "internal/repair/repair.go",
		old:  "record.Version{}, 0, now.Add(f.NotAfter))",
		new:  "record.Version{}, 0, now.AddDate(1, 0, 0))",
		pkg:  "internal/repair", run: "^TestRepairThatComesLateReadsAgain$",
	},
	{
		rule: "repair-unchanged", what: "the tombstone is unconditional",
		file: "internal/repair/decide.go",
		old: `	only := seen.Version
	w.Only = &only
	// [repair-tombstone]`,
		new: `	// [repair-tombstone]`,
		pkg: "internal/repair", run: "^TestRepairCorrectsTheTarget$",
	},
	{
		rule: "repair-equal", what: "a record under an equal key is removed",
		file: "internal/repair/decide.go",
		old: `	if row.Equal != "" {
`,
		new: `	if false {
`,
		pkg: "internal/repair", run: "^TestRepairCorrectsTheTarget$",
	},
	{
		rule: "repair-tombstone", what: "no tombstone where the target has nothing",
		file: "internal/repair/decide.go",
		old: `		if known {
			return store.Write{}, stepNone
`,
		new: `		if true {
			return store.Write{}, stepNone
`,
		pkg: "internal/repair", run: "^TestRepairBesideAWriter$",
	},
	{
		rule: "journal-version", what: "the journal's version does not count",
		file: "internal/repair/decide.go",
		old:  "w.Deleted, w.Version = true, seen.Version.Max(journaled)",
		new:  "w.Deleted, w.Version = true, seen.Version",
		pkg:  "internal/repair", run: "^TestRepairBesideAWriter$",
	},
	{
		rule: "ahead-era", what: "legacy's era is not raised",
		file: "internal/repair/repair.go",
		old: `	if ahead.IsZero() {
`,
		new: `	if true {
`,
		pkg: "internal/repair", run: "^TestRepairRaisesTheEraAboveAnEntryAhead$",
	},
	{
		rule: "raise-locked", what: "an era is raised behind a fence",
		file: "store/postgres/system_identifier.go",
		old:  `case f.attempt != "":`,
		new:  `case f.attempt == "never":`,
		pkg:  "store/postgres", run: "^TestAnotherServerStartsAnEra$",
	},
	{
		rule: "raise-behind", what: "an old primary raises its era",
		file: "store/postgres/system_identifier.go",
		old:  "if int64(timeline) > own {",
		new:  "if int64(timeline) > own+1000 {",
		pkg:  "store/postgres", run: "^TestAnotherServerStartsAnEra$",
	},
	{
		rule: "repair-era", what: "behind a fence legacy's rows are of the new era",
		file: "internal/repair/repair.go",
		old:  `return max(first, 1) - 1, true, nil`,
		new:  `return max(first, 1), true, nil`,
		pkg:  "internal/repair", run: "^TestRepairCorrectsTheTarget$",
	},
	{
		rule: "pinned-route", what: "a write follows the route of its end",
		file: "dual/writer.go",
		old:  "background := p.h.writes == phases.WritesBackground && p.h.lease.valid()",
		new:  "background := w.i.pinned.Load().writes == phases.WritesBackground && p.h.lease.valid()",
		pkg:  "dual", run: "^TestWriteKeepsItsRoute$",
	},
	{
		rule: "both-before-ack", what: "a refused write is acknowledged",
		file: "dual/target_failure.go",
		old: `	case !result.TargetRead:
		return nil`,
		new: `	case true:
		return nil`,
		pkg: "dual", run: "^TestDegradedDeleteOfAbsentKeyIsNotUndoneByARead$",
	},
	{
		rule: "overflow-journaled", what: "what overflows is dropped",
		file: "dual/background.go",
		old:  `			return w.journalLater(p, entries, errQueueFull)`,
		new: `			_ = entries
			return nil`,
		pkg: "dual", run: "^TestFullQueueOverflowsToTheJournal$",
	},
	{
		rule: "unknown-journaled", what: "an unknown outcome is not journaled",
		file: "dual/writer.go",
		old:  `	case !w.i.pending.add(p, entries, false):`,
		new:  `	case false:`,
		pkg:  "dual", run: "^TestUncertainLegacyWriteIsJournaled$",
	},
	{
		rule: "journal-serial", what: "a move takes no exclusive lock",
		file: "internal/statedb/lock.go",
		old:  "\t\tb.Queue(TurnstileExclusive, migration)\n\t\tb.Queue(`SELECT true FROM migrator.migrations WHERE name = $1 FOR UPDATE`, migration).",
		new:  "\t\tb.Queue(`SELECT true FROM migrator.migrations WHERE name = $1 FOR SHARE`, migration).",
		pkg:  "internal/state", run: "^TestAJournaledFailureAndAnAdvanceNeverBothWin$",
	},
	{
		rule: "journal-empty", what: "journaled keys do not block",
		file: "phases/gates.go",
		old:  "if n := e.Status.JournalKeys; n > 0 {",
		new:  "if n := e.Status.JournalKeys; n > 1<<40 {",
		pkg:  "phases", run: "^TestInterlocksCantBeOverridden$",
	},
	{
		rule: "journal-held", what: "only the present route counts",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "INTO live_phases, live_percents FROM migrator.live_routes(of_migration) r;",
		new:  "INTO live_phases, live_percents FROM migrator.live_routes(of_migration) r WHERE false;",
		pkg:  "internal/state", run: "^TestJournalRulesOnReaders$",
	},
	{
		rule: "journal-changes", what: "a key leaves though it changed again",
		file: "dual/journal_queue.go",
		old:  "if e := q.entries[k]; e.changes == b.changes[n] {",
		new:  "if e := q.entries[k]; e.changes >= b.changes[n] {",
		pkg:  "dual", run: "^TestChangeOfUnknownOutcomeDuringJournalingStays$",
	},
	{
		rule: "journal-changes", what: "the journal is cleared whatever the count",
		file: "internal/state/migrations/00035_journal_pages.sql",
		old:  "j.key = l.key AND j.changes = l.changes",
		new:  "j.key = l.key AND l.changes > 0",
		pkg:  "internal/state", run: "^TestClearKeepsLaterChanges$",
	},
	{
		rule: "older-settled", what: "an older write counts as written",
		file: "dual/apply.go",
		old:  "if r.Outcome == store.Older && (r.Version.NewerThan(version) || r.Version == version && !resent) {",
		new:  "if false {",
		pkg:  "dual", run: "^TestOlderIsSettledByTheLockedRow$",
	},
	{
		rule: "write-fault", what: "one write's fault rolls back",
		file: "dual/target_failure.go",
		old: `	if isWriteFault(cause) {
`,
		new: `	if false {
`,
		pkg: "dual", run: "^TestAFaultOfTheWriteTakesNoReadsBack$",
	},
	{
		rule: "no-journal-fails", what: "a write without journal is acknowledged",
		file: "dual/target_failure.go",
		old:  `		return i.fail(entries, fmt.Errorf("%w (and it could not be journaled: %w)", cause, err))`,
		new:  `		return nil`,
		pkg:  "dual", run: "^TestFailReportsThatLegacyHasTheWrite$",
	},
	{
		rule: "degraded-read", what: "a degraded key is read from the target",
		file: "dual/target_failure.go",
		old: `		i.degraded.add(entries)
`,
		new: "",
		pkg: "dual", run: "^TestDegradedDeleteOfAbsentKeyIsNotUndoneByARead$",
	},
	{
		rule: "delete-absent", what: "a delete of no record is acknowledged",
		file: "dual/writer.go",
		old:  `		return w.deleteAbsent(ctx, p, o, notAfter, clockErr, committed)`,
		new:  `		return false, nil`,
		pkg:  "dual", run: "^TestDegradedDeleteOfAbsentKeyIsNotUndoneByARead$",
	},
	{
		rule: "lease-after-read", what: "the lease is not checked after the read",
		file: "dual/reader.go",
		old:  "case err == nil && !p.h.lease.valid():",
		new:  "case false:",
		pkg:  "dual", run: "^TestLapsedInstanceReadsLegacy$",
	},
	{
		rule: "miss-asks-legacy", what: "a miss is answered",
		file: "dual/reader.go",
		old: `	value, found, err := r.set.Legacy(within, key)
	p.observe(ctx, readMissed, err, began)`,
		new: `	_ = within
	var value V
	var found bool
	var err error
	p.observe(ctx, readMissed, err, began)`,
		pkg: "dual", run: "^TestAMissAsksLegacy$",
	},
	{
		rule: "miss-fenced", what: "a read of a lost record finds nothing",
		file: "dual/reader.go",
		old:  "if err != nil || !entry.missed() || !p.h.missAsksLegacy {",
		new:  "if true {",
		pkg:  "dual", run: "^TestAMissAsksLegacy$",
	},
	{
		rule: "miss-fenced", what: "a write builds on a lost record",
		file: "dual/retain.go",
		old:  "if current.missed() && h.missAsksLegacy {",
		new:  "if false {",
		pkg:  "dual", run: "^TestAWriteOfALostRecordIsRefused$",
	},
	{
		rule: "lost-confirmed", what: "a record that legacy has deleted is lost",
		file: "dual/shadow.go",
		old:  "if err != nil || !found || r.differs(first.legacy, value) {",
		new:  "if _ = found; err != nil || r.differs(first.legacy, value) && found {",
		pkg:  "dual", run: "^TestALossIsConfirmedByASecondLook$",
	},
	{
		rule: "fenced-no-fallback", what: "retain falls back to legacy",
		file: "phases/route.go",
		old:  "Retain:      {Reads: ReadsTarget,",
		new:  "Retain:      {Reads: ReadsTarget, Fallback: true,",
		pkg:  "phases", run: "^TestBehaviours$",
	},
	{
		rule: "join-locked", what: "an instance joins without a lock",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "    PERFORM pg_advisory_xact_lock_shared(hashtextextended('migrator route ' || of_migration, 0));\n    SELECT * INTO m FROM migrator.migrations WHERE name = of_migration FOR SHARE;",
		new:  "    SELECT * INTO m FROM migrator.migrations WHERE name = of_migration;",
		pkg:  "internal/state", run: "^TestAJournaledFailureAndAnAdvanceNeverBothWin$",
	},
	{
		rule: "join-described", what: "any instance joins beyond legacy",
		file: "internal/state/migrations/00023_columns.sql",
		old:  "ELSIF m.phase <> 'legacy' AND",
		new:  "ELSIF false AND",
		pkg:  "internal/test/cases", run: "^TestJoinIsDescribed$",
	},
	{
		rule: "join-described", what: "an instance that joined in legacy goes on, whatever it moves",
		file: "internal/state/transition.go",
		old:  "	if phases.Forward(from, move.To) && len(e.Fleet.Other) > 0 {",
		new:  "	if false {",
		pkg:  "internal/test/cases", run: "^TestJoinIsDescribed$",
	},
	{
		rule: "fields-acknowledged", what: "an instance acknowledges columns that it does not move",
		file: "internal/state/migrations/00023_columns.sql",
		old:  "IF m.epoch = m.fields_epoch AND",
		new:  "IF false AND",
		pkg:  "internal/test/cases", run: "^TestAColumnIsAddedInEachPhase$/^dual-read$",
	},
	{
		rule: "drain-reads", what: "an epoch is acknowledged at once",
		file: "dual/instance.go",
		old:  "for len(i.retired) > 0 && i.retired[0].drained() {",
		new:  "for len(i.retired) > 0 {",
		pkg:  "dual", run: "^TestEpochIsAcknowledgedOnlyAfterQueueDrained$",
	},
	{
		rule: "drain-writes", what: "writes do not count",
		file: "dual/pinned_route.go",
		old:  `	begun += s.reads.Load() + s.writes.Load() + s.extra.Load()`,
		new:  `	begun += s.reads.Load() + s.extra.Load()`,
		pkg:  "dual", run: "^TestFailuresAreCountedByOutcome$",
	},
	{
		rule: "drain-queue", what: "queued writes do not count",
		file: "dual/pinned_route.go",
		old:  `	begun += s.reads.Load() + s.writes.Load() + s.extra.Load()`,
		new:  `	begun += s.reads.Load() + s.writes.Load()`,
		pkg:  "dual", run: "^TestFailuresAreCountedByOutcome$",
	},
	{
		rule: "leave-drained", what: "the lease is given back at once",
		file: "dual/shutdown.go",
		old:  "for left := i.inFlight(); left > 0; left = i.inFlight() {",
		new:  "for left := i.inFlight(); left > 1<<40; left = i.inFlight() {",
		pkg:  "dual", run: "^TestLeaveIsCleanOnlyWhenDrained$",
	},
	{
		rule: "held-routes", what: "routes of other leases do not count",
		file: "phases/move.go",
		old:  "if !Compatible(r, to) {",
		new:  "if false {",
		pkg:  "phases", run: "^TestLegalNamesTheConflictingLiveRoute$",
	},
	{
		rule: "no-skip", what: "a phase is skipped",
		file: "phases/move.go",
		old:  "ShadowWrite: {DualRead},",
		new:  "ShadowWrite: {DualRead, Cutover},",
		pkg:  "phases", run: "^TestLegalMoves$",
	},
	{
		rule: "epoch-grows", what: "a lower epoch is taken",
		file: "dual/run.go",
		old:  "case g.Route.Epoch < pinned.Epoch:",
		new:  "case false:",
		pkg:  "dual", run: "^TestLowerEpochIsRefused$",
	},
	{
		rule: "epoch-route", what: "another route of the same epoch is taken",
		file: "dual/run.go",
		old:  "case g.Route.Epoch == pinned.Epoch && g.Route != pinned:",
		new:  "case false:",
		pkg:  "dual", run: "^TestAnotherRouteOfTheSameEpochIsRefused$",
	},
	{
		rule: "known-phase", what: "an unknown phase is taken",
		file: "dual/instance.go",
		old:  "if _, err := phases.ParsePhase(string(g.Route.Phase)); err != nil {",
		new:  "if _, err := phases.ParsePhase(string(g.Route.Phase)); err != nil && g.TTL < 0 {",
		pkg:  "dual", run: "^TestUnknownPhaseIsRefused$",
	},
	{
		rule: "lease-own-clock", what: "the lease is counted from the answer",
		file: "dual/run.go",
		old: `	i.acknowledged = reached
	i.mu.Unlock()
`,
		new: `	i.acknowledged = reached
	i.mu.Unlock()
	sent = i.clock()
`,
		pkg: "dual", run: "^TestLeaseIsCountedFromBeforeTheRequest$",
	},
	{
		rule: "lease-final", what: "the state renews a lease that is over",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "AND l.ended_at IS NULL AND l.expires_at > now.at AND",
		new:  "AND l.ended_at IS NULL AND",
		pkg:  "internal/state", run: "^TestARenewalAndATransitionAgreeOnWhoIsLive$",
	},
	{
		rule: "rejoin-epoch", what: "a new lease begins at the present epoch",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "least(m.epoch, before.acknowledged_epoch), now_at",
		new:  "m.epoch, now_at",
		pkg:  "internal/state", run: "^TestARejoinedLeaseStartsWhereTheFormerOneWas$",
	},
	{
		rule: "superseded-counts", what: "a superseded lease does not count",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "SET ended = 'superseded',\n               ended_at = least(greatest(l.expires_at, clock_timestamp()), clock_timestamp() + interval '5 minutes'),",
		new:  "SET ended = 'superseded',\n               ended_at = clock_timestamp(),",
		pkg:  "internal/state", run: "^TestATakenNameHoldsTheFirstRoute$",
	},
	{
		rule: "lapsed-reads", what: "a lapsed instance's failed write is acknowledged",
		file: "dual/target_failure.go",
		old: `	case !p.h.lease.valid():
`,
		new: `	case false:
`,
		pkg: "dual", run: "^TestLapsedInstanceInShadowWriteWritesBothBeforeItAcknowledges$",
	},
	{
		rule: "lapsed-blocks", what: "a lapsed lease blocks no gate",
		file: "phases/gates.go",
		old:  "case len(e.Fleet.Lapsed) > 0:",
		new:  "case len(e.Fleet.Lapsed) > 1000:",
		pkg:  "phases", run: "^TestGateVerdicts$",
	},
	{
		rule: "lapsed-blocks", what: "a lapsed lease blocks no move",
		file: "internal/state/transition.go",
		old:  "if phases.Forward(from, move.To) && len(e.Fleet.Lapsed) > 0 {",
		new:  "if phases.Forward(from, move.To) && len(e.Fleet.Lapsed) > 1000 {",
		pkg:  "internal/state", run: "^TestTransitionRefusesWhatNoOverrideOpens$",
	},
	{
		rule: "lapsed-held", what: "a journal entry does not count lapsed leases of retain",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "OR e.phase IN ('fenced', 'lifting', 'returning', 'retain', 'complete'))",
		new:  "OR false)",
		pkg:  "internal/state", run: "^TestAWriteRespectsALapsedLeaseThatReadsTheTargetAlone$",
	},
	{
		rule: "lapsed-held", what: "a move does not count lapsed leases of retain",
		file: "internal/state/snapshot.go",
		old:  "r.Epoch >= lowest || r.Epoch >= lowestLapsed && readsTargetAlone(r)",
		new:  "r.Epoch >= lowest",
		pkg:  "internal/state", run: "^TestTheRouteOfALapsedLeaseThatReadsTheTargetAloneIsLive$",
	},
	{
		rule: "unclean-mark", what: "a lease's end in grace leaves no mark",
		file: "internal/statedb/leases.go",
		old:  "e.phase IN ('shadow-write', 'dual-read', 'cutover', 'grace'))`",
		new:  "e.phase IN ('shadow-write', 'cutover', 'grace'))`",
		pkg:  "internal/state", run: "^TestADirtyMigrationNeedsALaterFullReconcile$",
	},
	{
		rule: "unclean-outlasts", what: "the mark ends with the lease",
		file: "internal/statedb/rows.go",
		old:  "st.Dirty = dirty.Add(ApplyDeadline(notAfter))",
		new:  "st.Dirty = *dirty",
		pkg:  "internal/state", run: "^TestADirtyMigrationNeedsALaterFullReconcile$",
	},
	{
		rule: "fence-attempt", what: "grace is left with an attempt noted",
		file: "internal/state/transition.go",
		old:  `if from.Phase == phases.Grace && e.Status.Attempt != "" && !move.To.Phase.Passing() {`,
		new:  "if false {",
		pkg:  "internal/state", run: "^TestANotedFenceLetsNothingElseOutOfGrace$",
	},
	{
		rule: "fence-lock", what: "the fence does not lock the table",
		file: "store/postgres/locks.go",
		old:  `"LOCK TABLE "+l.shape.name.Sanitize()+" IN "+mode+" MODE"`,
		new:  `"SELECT 1 WHERE 'x' <> '"+mode+"'"`,
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "fence-lock", what: "the fence's lock is too weak",
		file: "store/postgres/fence.go",
		old: `	// that waits for the fence's lock meets the triggers.
	err := l.locked(ctx, timeout, "SHARE ROW EXCLUSIVE",`,
		new: `	// that waits for the fence's lock meets the triggers.
	err := l.locked(ctx, timeout, "ROW EXCLUSIVE",`,
		pkg: "store/postgres", run: "^TestFenceStartsItsEraAfterOpenWriters$",
	},
	{
		rule: "fence-whole", what: "the fence does not bind replication",
		file: "store/postgres/fence_triggers.go",
		old:  `"ENABLE ALWAYS")`,
		new:  `"ENABLE")`,
		pkg:  "store/postgres", run: "^TestFenceHasNoGap$",
	},
	{
		rule: "fence-watched", what: "gaps are not looked for in the replay",
		file: "store/postgres/replay_run.go",
		old:  `} else if gaps != "" {`,
		new:  `} else if gaps == "never" {`,
		pkg:  "store/postgres", run: "^TestReplayNeedsAWholeFence$",
	},
	{
		rule: "fence-restored", what: "a lost fence is raised at a later era",
		file: "internal/control/return.go",
		old:  `c.Legacy.RestoreFence(ctx, st.Attempt, st.FirstFenceEra, st.FenceEra,`,
		new:  `c.Legacy.RestoreFence(ctx, st.Attempt, st.FirstFenceEra, st.FenceEra+1,`,
		pkg:  "internal/control", run: "^TestALostFenceIsRaisedAgain$",
	},
	{
		rule: "parts-watched", what: "a return begins beside a table that has changed",
		file: "internal/control/return.go",
		old:  `if err == nil && lost {`,
		new:  `if err == nil && lost && changes == "" {`,
		pkg:  "internal/control", run: "^TestAReturnDoesNotBeginBesideATableThatHasChanged$",
	},
	{
		rule: "parts-watched", what: "retain begins beside a table that has changed",
		file: "internal/control/fence.go",
		old:  `} else if lost {`,
		new:  `} else if lost && changes == "" {`,
		pkg:  "internal/control", run: "^TestAFenceNeedsTheSameTable$",
	},
	{
		rule: "parts-watched", what: "a new part with records counts as the application's own",
		file: "internal/control/parts.go",
		old:  `(gone || come && st.Route.Phase.Fenced())`,
		new:  `(gone || come && false)`,
		pkg:  "internal/control", run: "^TestPartsAreWatched$",
	},
	{
		rule: "parts-watched", what: "a part that is gone leaves no mark",
		file: "internal/state/parts.go",
		old:  `		if lost {`,
		new:  `		if lost && false {`,
		pkg:  "internal/state", run: "^TestPartsOfLegacy$",
	},
	{
		rule: "table-alone", what: "two migrations share a table",
		file: "store/postgres/sharing.go",
		old:  `if err != nil || other == "" {`,
		new:  `if err != nil || other != "never" {`,
		pkg:  "store/postgres", run: "^TestATableHasOneMigration$",
	},
	{
		rule: "fence-standbys", what: "the fence does not wait for standbys",
		file: "store/postgres/standbys.go",
		old:  `coalesce(r.flush_lsn >= $1::text::pg_lsn, false)`,
		new:  `coalesce(r.flush_lsn >= $1::text::pg_lsn, false) OR true`,
		pkg:  "store/postgres", run: "^TestFenceWaitsForStandbys$",
	},
	{
		rule: "fence-era", what: "the fence raises no era",
		file: "store/postgres/fence.go",
		old:  "if era, err = l.startEra(ctx, tx, 0); err != nil {",
		new:  "if era, err = f.era+1, nil; err != nil {",
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "fence-epoch", what: "the fleet is not looked at in retain's transaction",
		file: "internal/control/fence.go",
		old:  "case !e.Fleet.Settled():",
		new:  "case false:",
		pkg:  "internal/control", run: "^TestRetainReadsTheFleetAsItCommits$",
	},
	{
		rule: "fence-checked", what: "the fence is not looked at before retain",
		file: "internal/control/fence.go",
		old: `	if gaps != "" {
		return status, fmt.Errorf("legacy's fence is not whole`,
		new: `	if gaps == "never" {
		return status, fmt.Errorf("legacy's fence is not whole`,
		pkg: "internal/control", run: "^TestRetainNeedsItsOwnFence$",
	},
	{
		rule: "fence-checked", what: "the journal is not looked at in retain's transaction",
		file: "internal/control/fence.go",
		old:  "case e.Status.JournalKeys > 0:",
		new:  "case e.Status.JournalKeys > 1<<40:",
		pkg:  "internal/control", run: "^TestRetainReadsTheJournalAsItCommits$",
	},
	{
		rule: "one-decides", what: "an attempt lifts another one's fence",
		file: "store/postgres/fence.go",
		old:  `return fmt.Errorf("the fence is of attempt %s, not %s", f.attempt, attempt)`,
		new:  "_ = 0",
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "one-decides", what: "a move is made from another route",
		file: "internal/state/transition.go",
		old:  "if move.From.Epoch != 0 && move.From != from {",
		new:  "if false {",
		pkg:  "internal/state", run: "^TestTransitionsOfOneDecisionYieldOneEpochAndClearRefusals$",
	},
	{
		rule: "attempt-void", what: "a lifted attempt fences again",
		file: "store/postgres/fence.go",
		old: `		if over {
			return hint`,
		new: `		if over && attempt == "" {
			return hint`,
		pkg: "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "lift-era", what: "lifting raises no era",
		file: "store/postgres/fence.go",
		old: `		if era, err = l.startEra(ctx, tx, f.era); err != nil {
			return err
		}
`,
		new: "",
		pkg: "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "lift-replayed", what: "grace is reached with keys to replay",
		file: "internal/state/transition.go",
		old:  `if move.To.Phase == phases.Grace && from.Phase.Passing() && max(e.Status.ReturnKeys, e.Status.ReturnRest) > 0 {`,
		new:  `if false {`,
		pkg:  "internal/state", run: "^TestTheReturnJournal$",
	},
	{
		rule: "retain-cas", what: "a version of a later era is counted on",
		file: "record/version.go",
		old:  "case v.era > era:",
		new:  "case false:",
		pkg:  "record", run: "^TestNextVersionGrows$",
	},
	{
		rule: "retain-once", what: "a conditional write is sent again",
		file: "store/redis/apply.go",
		old:  "once: w.Only != nil,",
		new:  "once: false,",
		pkg:  "store/redis", run: "^TestMissingReplies$",
	},
	{
		rule: "return-journal", what: "retain writes before it journals",
		file: "dual/retain.go",
		old:  `if !h.reversible || h.route.Phase != phases.Retain {`,
		new:  `if !h.reversible || h.route.Phase != phases.Complete {`,
		pkg:  "dual", run: "^TestIrreversibleRetainAndCompleteNeedNoState$",
	},
	{
		rule: "return-journal", what: "another phase's keys are journaled",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "IF m.phase = 'retain' AND m.epoch = at_epoch THEN",
		new:  "IF m.epoch >= at_epoch THEN",
		pkg:  "internal/state", run: "^TestTheReturnJournal$",
	},
	{
		rule: "return-reversible", what: "reversible is changed in retain",
		file: "internal/state/changes.go",
		old:  "if before.Reversible != after.Reversible && statedb.Fenced(at.Phase) {",
		new:  "if false {",
		pkg:  "internal/state", run: "^TestReversibleCanNotChangeBehindTheFence$",
	},
	{
		rule: "return-listed", what: "what takes longer extends its time and lists nothing",
		file: "dual/retain.go",
		old:  "if listed, err = w.list(ctx, h, keys[n:]); err != nil {",
		new:  "if listed, err = w.list(ctx, h, nil); err != nil {",
		pkg:  "dual", run: "^TestRetainListsAgainBeforeALaterNotAfter$",
	},
	{
		rule: "return-listed", what: "the time is fixed once the keys are listed",
		file: "dual/retain.go",
		old: `	return l, nil
}

// refuse`,
		new: `	l.notAfter = l.notAfter.Add(time.Since(began))
	return l, nil
}

// refuse`,
		pkg: "dual", run: "^TestNotAfterIsFixedBeforeTheListing$",
	},
	{
		rule: "return-marks", what: "a round does not wait",
		file: "internal/control/rounds.go",
		old:  "if err := c.awaitLate(ctx); err != nil {",
		new:  "if err := error(nil); err != nil {",
		pkg:  "internal/control", run: "^TestARoundWaitsForWritesThatWereListed$",
	},
	{
		rule: "return-marks", what: "a round notes the newest change after it has waited",
		file: "internal/control/rounds.go",
		old: `	newest, err := c.State.NewestChange(ctx, c.Migration)
	if err != nil {
		return err
	}
	if err := c.awaitLate(ctx); err != nil {
		return err
	}
`,
		new: `	if err := c.awaitLate(ctx); err != nil {
		return err
	}
	newest, err := c.State.NewestChange(ctx, c.Migration)
	if err != nil {
		return err
	}
`,
		pkg: "internal/control", run: "^TestAKeyListedDuringTheWaitIsNotOfTheRound$",
	},
	{
		rule: "return-marks", what: "a round writes the target",
		file: "internal/control/rounds.go",
		old: `	failpoint.Here("control.return.copied")
`,
		new: `	if _, err := c.writeBack(ctx, entries, done.Rows); err != nil {
		return 0, err
	}
`,
		pkg: "internal/control", run: "^TestRoundsCopyWhileWritesContinue$",
	},
	{
		rule: "return-marks", what: "a round empties the journal",
		file: "internal/state/migrations/00020_returns.sql",
		old:  `SET copied = greatest(copied, up_to)`,
		new:  `SET floor = greatest(floor, up_to), copied = greatest(copied, up_to)`,
		pkg:  "internal/control", run: "^TestCopiesThatLegacyLostAreMadeAgain$",
	},
	{
		rule: "return-marks", what: "a key that was not copied keeps its number",
		file: "internal/state/migrations/00020_returns.sql",
		old:  `key = ANY (not_copied) AND changes <= up_to;`,
		new:  `key = ANY (not_copied) AND changes < 0;`,
		pkg:  "internal/control", run: "^TestReturnStopsIfLegacyRefusesRowsMeanwhile$",
	},
	{
		rule: "return-marks", what: "each key counts its own changes",
		file: "internal/state/migrations/00020_returns.sql",
		old:  `NEW.changes := nextval('migrator.return_changes');`,
		new:  `NEW.changes := NEW.changes + 0 * nextval('migrator.return_changes');`,
		pkg:  "internal/control", run: "^TestRoundsCopyWhileWritesContinue$",
	},
	{
		rule: "return-clear", what: "the return journal is cleared in retain",
		file: "internal/state/return_journal.go",
		old:  "if st.Route.Phase == phases.Retain {",
		new:  "if st.Route.Phase == phases.Retain && lost < 0 {",
		pkg:  "internal/state", run: "^TestTheReturnJournal$",
	},
	{
		rule: "return-settled", what: "the replay does not wait for the fleet",
		file: "internal/control/return.go",
		old:  "if err := c.AwaitSettled(ctx, settle); err != nil {",
		new:  "if err := error(nil); err != nil {",
		pkg:  "internal/control", run: "^TestReclaimBehindAnUnrecordedFenceReplaysEveryWrite$",
	},
	{
		rule: "return-lost", what: "lost records are replayed",
		file: "internal/control/return.go",
		old:  `; n > p.accepted {`,
		new:  `; n > p.accepted+1000 {`,
		pkg:  "internal/control", run: "^TestReturnStops|^TestReplayDeletesNothing",
	},
	{
		rule: "return-refused", what: "returning is committed though rows are refused",
		file: "internal/control/rehearse.go",
		old:  "if len(r.Refused) > 0 && !setAside {",
		new:  "if len(r.Refused) > 1000 && !setAside {",
		pkg:  "internal/control", run: "^TestReturnStopsBeforeWritesWaitIfLegacyRefusesRows$",
	},
	{
		rule: "return-refused", what: "a rehearsal is committed",
		file: "store/postgres/replay.go",
		old:  "\t\treturn errRehearsed\n",
		new:  "\t\treturn nil\n",
		pkg:  "store/postgres", run: "^TestReplayFindsAnOrder$",
	},
	{
		rule: "return-refused", what: "a refused row is not tried again",
		file: "store/postgres/replay_rows.go",
		old:  "for len(w.refused) > 0 {",
		new:  "for len(w.refused) > 1000 {",
		pkg:  "store/postgres", run: "^TestReplayFindsAnOrder$",
	},
	{
		rule: "return-refused", what: "a refused key counts as copied",
		file: "internal/control/return.go",
		old:  "stay = append(stay, r.Key)",
		new:  "_ = r",
		pkg:  "internal/control", run: "^TestReturnStopsIfLegacyRefusesRowsMeanwhile$",
	},
	{
		rule: "replay-run", what: "an older run copies",
		file: "store/postgres/replay_run.go",
		old:  "case number != run.Number:",
		new:  "case number < run.Number:",
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "replay-run", what: "an older run lifts the fence",
		file: "store/postgres/replay_run.go",
		old:  "return l.checkRun(ctx, tx, run)",
		new:  `return l.checkAttempt(ctx, tx, run.Attempt, " FOR UPDATE")`,
		pkg:  "internal/control", run: "^TestAReturnThatWasGivenUpStaysSo$",
	},
	{
		rule: "replay-legacy", what: "marks of another legacy count",
		file: "internal/state/migrations/00020_returns.sql",
		old:  "copied = CASE WHEN r.legacy = to_legacy THEN r.copied ELSE r.floor END;",
		new:  "copied = r.copied;",
		pkg:  "internal/control", run: "^TestCopiesThatLegacyLostAreMadeAgain$",
	},
	{
		rule: "replay-legacy", what: "another legacy takes a run's copies",
		file: "store/postgres/replay_run.go",
		old:  "case now == nil || *now != run.Legacy:",
		new:  "case now == nil:",
		pkg:  "store/postgres", run: "^TestLegacyConformance$",
	},
	{
		rule: "replay-legacy", what: "the fence is lifted after a crash of legacy",
		file: "store/postgres/replay_run.go",
		old:  "case now == nil || *now != run.Legacy:",
		new:  "case now != nil && *now != run.Legacy:",
		pkg:  "internal/control", run: "^TestNoFenceIsLiftedOverCopiesThatAreGone$",
	},
	{
		rule: "return-given-up", what: "the fence keeps its era",
		file: "store/postgres/replay_run.go",
		old:  "if era, err = l.startEra(ctx, tx, f.era); err != nil {",
		new:  "if era, err = f.era, nil; err != nil {",
		pkg:  "internal/control", run: "^TestASignalLeadsBackToRetain$",
	},
	{
		rule: "return-given-up", what: "the run goes on",
		file: "store/postgres/replay_run.go",
		old:  "first_era = $3, run = run + 1 WHERE",
		new:  "first_era = $3 WHERE",
		pkg:  "internal/control", run: "^TestAReturnThatWasGivenUpStaysSo$",
	},
	{
		rule: "return-given-up", what: "retain carries the era of before",
		file: "internal/control/return.go",
		old:  "FenceEra: era,",
		new:  "FenceEra: min(era, e.Status.FenceEra),",
		pkg:  "internal/control", run: "^TestASignalLeadsBackToRetain$",
	},
	{
		rule: "return-given-up", what: "legacy's rows are of the new era",
		file: "store/postgres/replay_run.go",
		old:  "int64(f.first))",
		new:  "int64(era))",
		pkg:  "internal/control", run: "^TestASignalLeadsBackToRetain$",
	},
	{
		rule: "return-final", what: "a return that has settled a decision can be given up",
		file: "internal/control/return.go",
		old:  `if err := p.c.State.FinalizeReturn(ctx, p.c.Migration, p.at); err != nil {`,
		new:  `if err := error(nil); err != nil {`,
		pkg:  "internal/control", run: "^TestAReturnThatSetsAsideIsNotGivenUp$",
	},
	{
		rule: "return-aside", what: "the target keeps what was set aside",
		file: "internal/control/return.go",
		old:  "if left, err = p.c.writeBack(ctx, entries, have); err != nil {",
		new:  "if left = nil; len(have) < 0 {",
		pkg:  "internal/control", run: "^TestRefusedRowsAreSetAside$",
	},
	{
		rule: "return-aside", what: "records are set aside without leave",
		file: "internal/state/migrations/00020_returns.sql",
		old:  "AND return_sets_aside AND records > 0",
		new:  "AND records > 0",
		pkg:  "internal/state", run: "^TestTheReturnJournal$",
	},
	{
		rule: "return-older", what: "what the target has from before the fence is replayed",
		file: "internal/control/rehearse.go",
		old:  `e.Version.Era() < first {`,
		new:  `e.Version.Era() < 0*first {`,
		pkg:  "internal/control", run: "^TestReturnKeepsNewerRowsOfLegacy$",
	},
	{
		rule: "return-unproven", what: "what neither store has is not counted",
		file: "internal/control/rehearse.go",
		old:  `unproven = r.Unproven`,
		new:  `unproven = 0`,
		pkg:  "internal/test/cases", run: "^TestReturnAfterTheTargetLostNewRecords$",
	},
	{
		rule: "return-beat", what: "copies count without a beat",
		file: "internal/control/rounds.go",
		old:  `if c.Whole != nil {`,
		new:  `if false {`,
		pkg:  "internal/control", run: "^TestCopiesCountAfterABeat$",
	},
	{
		rule: "return-all", what: "a key that the target has deleted stays in legacy",
		file: "internal/control/rehearse.go",
		old:  "rows[i] = store.Row{Key: e.Key}",
		new:  "rows[i], older = store.Row{Key: e.Key}, append(older, e.Key)",
		pkg:  "internal/control", run: "^TestRoundsCopyWhileWritesContinue$",
	},
	{
		rule: "return-all", what: "what the target got meanwhile is not replayed",
		file: "internal/control/return.go",
		old:  "changed = append(changed, writes[i].Key)",
		new:  "_ = i",
		pkg:  "internal/control", run: "^TestReplayTakesALateWriteOfRetain$",
	},
	{
		rule: "return-all", what: "a write that a trigger suppressed counts",
		file: "store/postgres/replay_rows.go",
		old:  "if back[i].Found != rows[i].Found {",
		new:  "if back[i].Found && !rows[i].Found {",
		pkg:  "store/postgres", run: "^TestReplayFindsAnOrder$",
	},
	{
		rule: "return-era", what: "the replay's write of the target is unconditional",
		file: "internal/control/return.go",
		old:  `Version: row.Version, Only: seen[row.Key],`,
		new:  `Version: row.Version, Overwrite: true,`,
		pkg:  "internal/control", run: "^TestReplayTakesALateWriteOfRetain$",
	},
	{
		rule: "one-owner", what: "another owner's keys are taken (Redis)",
		file: "store/redis/mark.go",
		old:  "if one.owner != owner && meet(pattern, one.pattern) {",
		new:  "if false {",
		pkg:  "internal/test/cases", run: "^TestCopiedMigrationFile$",
	},
	{
		rule: "one-owner", what: "another owner's table is taken (PostgreSQL)",
		file: "store/postgres/target_mark.go",
		old:  `case len(others) > 0 && !takeOver:`,
		new:  `case len(others) > 1000 && !takeOver:`,
		pkg:  "store/postgres", run: "^TestTargetConformance$",
	},
	{
		rule: "mark-first", what: "a mark that was confirmed is placed again",
		file: "internal/app/marks.go",
		old: `	if m.Beat == 0 {
`,
		new: `	if m.Beat >= 0 {
`,
		pkg: "internal/test/cases", run: "^TestApplyPlacesNoLostMark$",
	},
	{
		rule: "mark-checked", what: "the daemon writes before it looks",
		file: "internal/daemon/maintenance.go",
		old:  "if !w.watchTarget(ctx, st) {",
		new:  "if w.watchTarget(ctx, st); false {",
		pkg:  "internal/daemon", run: "^TestNothingIsWrittenToALostTarget$",
	},
	{
		rule: "mark-checked", what: "an instance reads a target without the mark",
		file: "dual/marks.go",
		old: `	if err := t.marks.err(); err != nil {
		return Versioned[V]{}, err
	}
	return t.Target.Get(ctx, key)`,
		new: `	return t.Target.Get(ctx, key)`,
		pkg: "internal/test/cases", run: "^TestRetainOnTargetWithoutMark$",
	},
	{
		rule: "mark-lost", what: "a lost target is not recorded",
		file: "internal/app/marks.go",
		old:  "if _, err := j.State.LoseTarget(ctx, name, m, err.Error()); err != nil {",
		new:  "if err := error(nil); err != nil {",
		pkg:  "internal/test/cases", run: "^TestRetainOnTargetWithoutMark$",
	},
	{
		rule: "mark-lost", what: "an earlier beat is taken (PostgreSQL)",
		file: "store/postgres/target_mark.go",
		old: `	case beat < m.Beat:
`,
		new: `	case false:
`,
		pkg: "store/postgres", run: "^TestTargetConformance$",
	},
	{
		rule: "mark-lost", what: "the return journal is open",
		file: "internal/state/migrations/00027_fleet_api.sql",
		old:  "    PERFORM migrator.refuse_lost_target(of_migration);\n",
		new:  "",
		pkg:  "internal/test/cases", run: "^TestRetainOnTargetWithoutMark$",
	},
	{
		rule: "target-restarted", what: "a restart leaves no mark",
		file: "internal/app/marks.go",
		old: `		if err := j.State.DoubtTarget(ctx, j.Config.Name, why); err != nil {
`,
		new: `		if err := error(nil); err != nil {
`,
		pkg: "internal/test/cases", run: "^TestTargetIsRestarted$",
	},
	{
		rule: "beat-first", what: "a later beat of the target is taken",
		file: "internal/app/marks.go",
		old: `		wentBack, err = st.RaiseBeat(ctx, name, m, ahead.Beat, ahead.Beat == next)
`,
		new: `		err = nil
`,
		pkg: "internal/test/cases", run: "^TestStateWentBackOnItsServer$",
	},
	{
		rule: "legacy-lost", what: "a loss of legacy is only logged",
		file: "internal/app/marks.go",
		old: `		_, err := j.LoseLegacy(ctx, why)
		return err`,
		new: `		return nil`,
		pkg: "internal/test/cases", run: "^TestLegacyCrashIsFound$",
	},
	{
		rule: "loss-held", what: "reported epochs do not count",
		file: "internal/state/snapshot.go",
		old:  "lowest, lowestLapsed := present+1, present+1",
		new:  "lowest, lowestLapsed := present+1000, present+1000",
		pkg:  "internal/state", run: "^TestAStateLossReportCountsOnlyForUnknownEpochs$",
	},
	{
		rule: "loss-blocks", what: "a state loss blocks no gate",
		file: "phases/state_loss.go",
		old:  "if l := e.Status.StateLoss; l != nil {",
		new:  "if l := e.Status.StateLoss; l != nil && false {",
		pkg:  "phases", run: "^TestInterlocksCantBeOverridden$",
	},
	{
		rule: "loss-blocks", what: "a state loss blocks no move",
		file: "internal/state/transition.go",
		old:  "if lost := e.Status.StateLoss; lost != nil && (phases.Forward(from, move.To) || move.To.Phase == phases.Returning) {",
		new:  "if lost := e.Status.StateLoss; lost != nil && false {",
		pkg:  "internal/state", run: "^TestAnInstanceLivesThroughARestoreOfAnOlderBackupAndIsReclaimed$",
	},
	{
		rule: "loss-epoch", what: "a move takes the next epoch",
		file: "internal/state/migrations/00007_restored.sql",
		old:  "SELECT max(epoch) + 1 INTO STRICT number FROM migrator.epochs WHERE migration = m.name;",
		new:  "number := m.epoch + 1;",
		pkg:  "internal/state", run: "^TestAnInstanceLivesThroughARestoreOfAnOlderBackupAndIsReclaimed$",
	},
	{
		rule: "store-unclean", what: "a loss leaves no mark",
		file: "internal/state/unclean.go",
		old:  "SELECT migrator.mark_unclean($1, $2)",
		new:  "SELECT $1::text, $2::text",
		pkg:  "internal/control", run: "^TestALostFenceIsRaisedAgain$",
	},
	{
		rule: "store-unclean", what: "a run behind the fence ends the mark",
		file: "internal/statedb/rows.go",
		old:  "AND e.phase IN ('fenced', 'lifting', 'returning', 'retain'))) clean ON true",
		new:  "AND e.phase IN ('complete'))) clean ON true",
		pkg:  "internal/test/cases", run: "^TestARunBehindTheFenceDisprovesNoLoss$",
	},
	{
		rule: "state-server", what: "another server leaves no mark",
		file: "internal/state/servers.go",
		old: `		if err := s.suspect(ctx, name, statedb.ChangedServer+changed); err != nil {
			return changed, err
		}
`,
		new: `		_ = name
`,
		pkg: "internal/state", run: "^TestAnotherServerOfTheState$",
	},
	{
		rule: "loss-unclean", what: "a reclaim leaves no mark",
		file: "internal/state/migrations/00028_decisions.sql",
		old:  "SET reclaimed_at = clock_timestamp(), return_lost = new_phase",
		new:  "SET return_lost = new_phase",
		pkg:  "internal/state", run: "^TestAReclaimIsAMarkOfItsOwn$",
	},
	{
		rule: "loss-hands-off", what: "the daemon works after a state loss",
		file: "internal/daemon/maintenance.go",
		old: `	if w.reportStateLoss(ctx, st) {
`,
		new: `	if w.reportStateLoss(ctx, st); false {
`,
		pkg: "internal/daemon", run: "^TestStateLossStopsMaintenance$",
	},
	{
		rule: "reclaim-leases", what: "leases from before the loss do not count",
		file: "phases/state_loss.go",
		old:  `		if !Compatible(r, to) {`,
		new:  `		if false {`,
		pkg:  "internal/state", run: "^TestAReclaimToAPhaseThatDoesNotKeepTheTargetWaitsForLeasesFromBefore$",
	},
	{
		rule: "reclaim-reads", what: "reclaim leaves the route",
		file: "phases/state_loss.go",
		old: `	case present.Phase.Position() >= DualRead.Position():
`,
		new: `	case false:
`,
		pkg: "phases", run: "^TestReclaimedRoute$",
	},
	{
		rule: "reclaim-scan", what: "reclaim ignores a fence",
		file: "phases/state_loss.go",
		old: `	case fenced:
`,
		new: `	case false:
`,
		pkg: "phases", run: "^TestReclaimedRoute$",
	},
	{
		rule: "reclaim-refuses", what: "reclaim takes retain without a fence",
		file: "phases/state_loss.go",
		old: `	case present.Phase == Retain:
`,
		new: `	case false:
`,
		pkg: "phases", run: "^TestReclaimedRoute$",
	},
}
