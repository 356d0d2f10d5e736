// Reads and writes of one table's records as the present route requires.
import { pause, refusedWith, Api, type JournalEntry } from "./api.ts";
import { Instance, type Pin, type Pinned } from "./instance.ts";
import { asked, isFenced, isUncertain, Legacy, OwnError, type Change, type Row } from "./legacy.ts";
import { takes } from "./route.ts";
import { none, Target, type Entry, type Write } from "./target.ts";

export interface Options {
  migration: string;
  daemons: string[]; // addresses that serve the HTTP API
  token: string;
  legacy: string; // URL of PostgreSQL
  target: string; // URL of Redis
  scripts: string; // the directory of a copy of store/redis/scripts
  log?: (message: string, error?: unknown) => void;
}

/** A write that the target does not have. legacy: legacy has it for good, and the target follows when it is repaired. */
export class TargetError extends Error {
  constructor(readonly key: string, readonly legacy: boolean, readonly unknown: boolean, cause: unknown) {
    super(`the write of ${key} is not in the target: ${text(cause)}`, { cause });
  }
}

/** The target has lost the record: fenced legacy has an older state of it. */
export class TargetLost extends Error {
  constructor(key: string) {
    super(`the target has lost the record ${key}: migrator doctor says what to do`);
  }
}

/** Nothing was written: no route under which it could be came within the budget. */
export class WaitError extends Error {}

/** A failure of the write itself: the target works, so its reads stay. */
class WriteFault extends Error {}

class Older extends Error {
  constructor(readonly has: string) {
    super(`the target has version ${has} already`);
  }
}

const text = (e: unknown): string => (e instanceof Error ? e.message : String(e));
const readWithin = 200; // ms, of a read of the target before legacy answers instead

/** The version of a write of retain; undefined: the key has been replayed to legacy by a return meanwhile. */
export function nextVersion(current: string, era: number): string | undefined {
  const own = Number.parseInt(current.slice(0, 8), 16);
  if (own > era) return undefined;
  const position = own < era ? 1n : BigInt(`0x${current.slice(8)}`) + 1n;
  return era.toString(16).padStart(8, "0") + position.toString(16).padStart(24, "0");
}

export class Records {
  private readonly degraded = new Map<string, string>(); // by key: the version that the target lacks
  private constructor(
    readonly instance: Instance,
    private readonly api: Api,
    private readonly legacy: Legacy,
    private readonly target: Target,
    private readonly column: string, // the key's
    private readonly numbers: string[], // the columns of whole numbers
  ) {}

  static async open(o: Options): Promise<Records> {
    const api = new Api(o.migration, o.daemons, o.token);
    const applied = await api.applied();
    const { file, columns } = applied;
    const wrong = (what: string): Error => new Error(`this client can't move ${o.migration}: ${what}`);
    if (columns === undefined) throw wrong("no columns are applied; run migrator apply");
    const key = columns.fields[columns.key[0] ?? -1];
    if (columns.key.length !== 1 || key?.kind !== "int") throw wrong("the key is not one column of whole numbers");
    for (const f of columns.fields) if (f.kind !== "int" && f.kind !== "text") throw wrong(`the column ${f.name} is of the kind ${f.kind}`);
    if (file.target?.store !== "redis" || (file.target.format ?? "hash") !== "hash") throw wrong("the target is not Redis with format: hash");
    if (file.target.key === undefined || file.legacy?.table === undefined) throw wrong("the applied file names no table, or no target.key");
    if (file.target.expires || file.legacy.version_column) throw wrong("it has target.expires or legacy.version_column");
    const legacy = new Legacy(o.legacy, o.migration, file.legacy.table, key.name, columns.fields.map((f) => f.name));
    const target = new Target(o.target, {
      migration: o.migration, template: file.target.key, column: key.name, versionField: file.target.version_field ?? "_v",
      fields: columns.fields.map((f) => ({ column: f.name, field: f.target })), scripts: o.scripts,
    });
    target.connect();
    try {
      const instance = await Instance.join(api, applied, {
        follow: (w) => { target.tombstonesFor = w.tombstones; },
        lost: (m, within) => target.lost(m, within),
        sample: (within) => target.sample(within),
        log: o.log ?? (() => {}),
      });
      return new Records(instance, api, legacy, target, key.name, columns.fields.filter((f) => f.kind === "int").map((f) => f.name));
    } catch (e) {
      target.close();
      await legacy.close();
      throw e;
    }
  }

  /** Leaves the fleet, when the operations in flight have ended. */
  async close(): Promise<void> {
    try {
      await this.instance.leave();
    } finally {
      this.target.close();
      await this.legacy.close();
    }
  }

  async read(key: string): Promise<Row | undefined> {
    const p = this.instance.pin(); // [pinned-route], [drain-reads]
    try {
      const { does, route } = p.h;
      if (does.reads === "legacy" || (does.reads === "split" && !takes(route.percent, key))) return await this.readLegacy(p.h, key, "serving");
      return await (does.fallback ? this.readTarget(p.h, key) : this.readTargetAlone(p.h, key));
    } finally {
      p.release();
    }
  }

  private async readLegacy(h: Pinned, key: string, role: string): Promise<Row | undefined> {
    try {
      const row = await this.legacy.read(key);
      h.count("read", "legacy", role, "ok");
      return row;
    } catch (e) {
      h.count("read", "legacy", role, "error");
      throw e;
    }
  }

  private async readTarget(h: Pinned, key: string): Promise<Row | undefined> {
    // [lapsed-reads]: the fleet may have moved on without this instance.
    if (!h.lease.valid) return this.readLegacy(h, key, "lapsed");
    let entry: Entry;
    try {
      entry = await this.get(key, readWithin);
    } catch {
      h.count("read", "target", "serving", "error");
      return this.readLegacy(h, key, "fallback");
    }
    h.count("read", "target", "serving", "ok");
    // [lease-after-read]: a process that was stopped since may have a value that others have replaced.
    if (!h.lease.valid) return this.readLegacy(h, key, "lapsed");
    // [degraded-read]: a key whose write this instance acknowledged without the target.
    const missing = this.degraded.get(key);
    if (missing !== undefined && missing > entry.version) return this.readLegacy(h, key, "degraded");
    if (missing !== undefined) this.degraded.delete(key);
    // [miss-asks-legacy]: without even a version, the record was never there, or the target has lost it.
    if (entry.version === none) return this.readLegacy(h, key, "missed");
    return entry.row;
  }

  private async readTargetAlone(h: Pinned, key: string): Promise<Row | undefined> {
    let entry: Entry;
    try {
      entry = await this.get(key, h.writing.deadline);
    } catch (e) {
      h.count("read", "target", "serving", "error");
      throw e; // [fenced-no-fallback]: legacy lacks the writes since its fence
    }
    h.count("read", "target", "serving", "ok");
    // [miss-fenced]: what fenced legacy has then is older than what the target has lost.
    if (entry.version === none && h.route.phase !== "complete" && (await this.readLegacy(h, key, "missed")) !== undefined) throw new TargetLost(key);
    return entry.row;
  }

  /** The target, while it is the migration's. */
  private get(key: string, within: number): Promise<Entry> {
    this.owned();
    return this.target.get(key, within);
  }

  private owned(): void {
    if (this.instance.targetLost !== undefined) throw new Error(this.instance.targetLost);
  }

  /** The change, which must leave the key as it is, and write whole numbers as every process does: the target has texts. */
  private checked(key: string, change: Change): Change {
    return (current) => {
      const next = change(current);
      if (next === null) return null;
      if (next[this.column] !== key) throw new Error(`the write of ${key} changes the key: delete the one record and write the other`);
      for (const n of this.numbers) {
        if (!/^(0|-?[1-9][0-9]*)$/.test(next[n] ?? "0")) throw new Error(`the write of ${key} has no whole number in ${n}: want digits, such as 42`);
      }
      return next;
    };
  }

  /** Makes one write, and returns when it is acknowledged as the route requires. */
  async write(key: string, unchecked: Change): Promise<void> {
    const change = this.checked(key, unchecked);
    let until: number | undefined;
    for (;;) {
      const p = this.instance.pin(); // [pinned-route], [drain-writes]
      let refused: unknown;
      try {
        if (p.h.does.writes === "target") refused = await this.writeTarget(p, key, change);
        else if (p.h.does.writes !== "wait") refused = await this.writeLegacy(p, key, change);
        else refused = new Error(`writes wait in ${p.h.route.phase}`);
      } finally {
        p.release(); // before the wait: it would block the very epoch that is waited for
      }
      if (refused === undefined) return;
      // The fence has refused it, or authority moves: it is made again on the next route.
      until ??= performance.now() + p.h.writing.fenceBudget;
      if (!(await this.instance.next(p.h, until))) {
        throw new WaitError(`nothing was written: no route for the write of ${key} came within ${p.h.writing.fenceBudget} ms`, { cause: refused });
      }
    }
  }

  /** Returns why nothing was written, where the next route must be awaited. */
  private async writeLegacy(p: Pin, key: string, change: Change): Promise<unknown> {
    const { h } = p;
    const follows = h.does.writes !== "legacy";
    let notAfter = 0;
    let clockError: unknown;
    if (follows) {
      try {
        // [not-after], [not-after-fixed]: fixed before legacy is touched: a process that is stopped in between can't
        // compute it late. Without it legacy takes the write all the same, and the change is journaled.
        notAfter = (await this.target.now(h.writing.deadline)) + h.writing.notAfter * 1000;
      } catch (e) {
        clockError = new Error(`the target's clock can't be read: ${text(e)}`);
      }
    }
    let written;
    try {
      written = await this.legacy.write(key, change);
    } catch (e) {
      if (isFenced(e)) return e;
      if (e instanceof OwnError) throw e.own;
      h.count("write", "legacy", "serving", "error");
      // [unknown-journaled]: legacy may have it.
      if (follows && isUncertain(e)) this.instance.queue(p, { key, version: none, reason: "the outcome of the legacy write is unknown" }, false);
      throw e;
    }
    if (!follows) {
      h.count("write", "legacy", "serving", "ok");
      return undefined;
    }
    // [lapsed-reads]: with its lease over, a write waits for both stores.
    const background = h.does.writes === "background" && h.lease.valid;
    if (written === undefined) {
      if (background) return undefined;
      // [delete-absent]: an earlier delete may have failed to reach the target.
      const cause = clockError ?? (await this.settle(h, key, none, none).then(() => undefined, (e: unknown) => e));
      if (cause !== undefined) await this.targetFailed(p, { key, version: none, reason: text(cause) }, cause);
      return undefined;
    }
    // [all-keys]: after the commit, never before.
    const w: Write = { key, row: written.row, version: written.version, notAfter };
    if (!background) {
      await this.follow(p, w, clockError, false);
      return undefined;
    }
    h.count("write", "legacy", "serving", "ok");
    if (h.inFlight > h.writing.queue) {
      // [overflow-journaled]
      this.instance.queue(p, { key, version: w.version, reason: "the queue of background writes is full" }, true);
      return undefined;
    }
    const own = p.extend(); // [drain-queue]
    void this.follow(own, w, clockError, true).finally(() => own.release());
    return undefined;
  }

  /** Applies legacy's change to the target. [both-before-ack]: returns when the target has it, or the journal permits it. */
  private async follow(p: Pin, w: Write, clockError: unknown, background: boolean): Promise<void> {
    const cause = clockError ?? (await this.apply(p.h, w).then(() => undefined, (e: unknown) => e));
    if (cause === undefined) {
      p.h.count("write", background ? "target" : "both", background ? "shadow" : "serving", "ok");
      return;
    }
    p.h.count("write", "target", background ? "shadow" : "serving", "error");
    const entry = { key: w.key, version: w.version, reason: text(cause).slice(0, 200) };
    // It is acknowledged already: the journal's queue takes it.
    if (background) this.instance.queue(p, entry, true);
    else await this.targetFailed(p, entry, cause);
  }

  private async apply(h: Pinned, w: Write): Promise<void> {
    const until = performance.now() + h.writing.deadline;
    for (let attempt = 0; ; attempt++) {
      let failure: unknown;
      try {
        this.owned();
        const r = await this.target.write(w, Math.min(h.writing.deadline * 0.4, until - performance.now()));
        if (r.outcome === "applied") return;
        // The version of a change that landed with an attempt before is its own.
        if (r.outcome === "older" && r.version === w.version && attempt > 0) return;
        if (r.outcome === "older") return await this.settle(h, w.key, w.version, r.version); // [older-settled]
        if (r.outcome === "late") return await this.settle(h, w.key, w.version, none); // [write-fault]
        failure = new WriteFault("the target has a value under this key that is not the migration's"); // [owned-only]
      } catch (e) {
        failure = e;
      }
      const wait = Math.min(10 * 2 ** attempt, 200);
      // Once the route is replaced there is no other attempt: the fleet waits for this operation.
      if (failure instanceof WriteFault || failure instanceof Older || h.over || performance.now() + wait > until) throw failure;
      await pause(wait); // [not-after-fixed]: each attempt carries the same time
    }
  }

  /** Brings a record of the target to legacy's present state. */
  private async settle(h: Pinned, key: string, version: string, above: string): Promise<void> {
    let last: unknown;
    for (let attempt = 0; attempt < 5; attempt++) {
      if (attempt > 0) await pause(5 * 2 ** attempt);
      const notAfter = (await this.target.now(h.writing.deadline)) + h.writing.notAfter * 1000; // of this read, not of the write
      const seen = await this.get(key, h.writing.deadline); // [repair-target-first]
      const has = await this.legacy.locked(key).catch((e: unknown) => {
        throw new WriteFault(`legacy's row could not be read under its lock: ${text(e)}`);
      });
      let w: Write;
      if (has === undefined) {
        const v = seen.version > version ? seen.version : version;
        if (seen.row === undefined && (v === seen.version || v === none)) return;
        // [repair-unchanged]: the tombstone must not land on a record that was inserted meanwhile.
        w = { key, row: null, version: v, notAfter, only: seen.version };
      } else {
        if (has.version <= above) throw new Older(above); // legacy has gone back
        w = { key, row: has.row, version: has.version, notAfter };
      }
      const r = await this.target.write(w, h.writing.deadline);
      if (r.outcome === "applied") return;
      last = new WriteFault(`the target answered ${r.outcome}`);
    }
    throw last;
  }

  /** A write that legacy has and the target lacks. */
  private async targetFailed(p: Pin, entry: JournalEntry, cause: unknown): Promise<void> {
    const { h } = p;
    const failed = (why: string): TargetError => new TargetError(entry.key, true, false, why === "" ? cause : new Error(`${text(cause)} (${why})`));
    let result;
    try {
      // [journal-serial], [journal-held]: the answer counts every route that a live lease may still hold.
      result = await this.api.journal([entry], h.writing.deadline);
    } catch (e) {
      // [no-journal-fails]: no repair knows of the change, and no move waits for it.
      this.instance.queue(p, entry, false);
      throw failed(`and it could not be journaled: ${text(e)}`);
    }
    if (result.fenced) throw failed("authority has moved meanwhile"); // [no-journal-fails]
    if (result.route.epoch < h.route.epoch) throw failed("the state has lost transactions"); // [epoch-grows]
    if (!h.lease.valid) throw failed("the lease has expired"); // [lapsed-reads]
    if (!result.target_read) return; // [both-before-ack], [journal-held]
    if (cause instanceof WriteFault) throw failed(""); // [write-fault]
    if (h.writing.policy === "degrade") {
      this.degraded.set(entry.key, entry.version); // [degraded-read]: before the acknowledgment
      return;
    }
    if (h.writing.policy !== "rollback") throw failed("");
    p.release(); // the rollback settles only when this instance has acknowledged it
    const end = performance.now() + h.writing.rollbackBudget;
    let committed = false;
    let last: unknown;
    for (let wait = 1; performance.now() < end; wait = Math.min(2 * wait, 50)) {
      try {
        if (!committed) {
          await this.api.rollback(h.route.epoch, `the target refused a write: ${entry.reason}`, end - performance.now());
          committed = true;
          this.instance.ask(); // this instance may be the last that has to acknowledge
        }
        // [journal-held]: instances read the target until they have acknowledged the rollback, or their leases are over.
        if (!(await this.api.routes(Math.max(end - performance.now(), 1))).target_read) return;
      } catch (e) {
        last = e;
      }
      await pause(wait);
    }
    if (!committed) throw failed(`and the rollback failed: ${text(last)}`);
    // The exception of promise 2: the budget bounds how long a write waits for an instance that does not respond.
  }

  /** In retain and complete: by compare-and-set on the version that was read. */
  private async writeTarget(p: Pin, key: string, change: Change): Promise<unknown> {
    const { h } = p;
    const end = performance.now() + h.writing.deadline;
    const left = (): number => Math.max(end - performance.now(), 1);
    const failed = (unknown: boolean, e: unknown): TargetError => new TargetError(key, false, unknown, e);
    // [return-listed]: fixed before the key is listed, so that a return knows when no write of the listing can land.
    const notAfter = await this.target.now(h.writing.deadline).then((now) => now + h.writing.notAfter * 1000, (e: unknown) => {
      throw failed(false, e);
    });
    if (h.grant.reversible && h.route.phase === "retain") {
      try {
        await this.api.returnKey(h.route.epoch, key, left()); // [return-journal]: before the target is touched
      } catch (e) {
        if (refusedWith(e, "route-moved")) return e;
        throw failed(false, e);
      }
    }
    let sent: string | undefined; // the version that an attempt with an unknown outcome rested on
    let unknown: unknown;
    for (let attempt = 0; ; attempt++) {
      if (attempt > 0) {
        if (left() <= 5) throw failed(sent !== undefined, unknown ?? new Error("other writes of the record intervened"));
        await pause(Math.min(5 * 2 ** attempt, 160, left()));
      }
      let entry: Entry;
      try {
        entry = await this.get(key, left());
      } catch (e) {
        unknown ??= e;
        continue;
      }
      // [retain-once]: the target has a later version, perhaps of this very write.
      if (sent !== undefined && entry.version !== sent) throw failed(true, unknown);
      // [miss-fenced]: without this the write would hide for good that the target has lost the record.
      if (entry.version === none && h.route.phase !== "complete" && (await this.readLegacy(h, key, "missed")) !== undefined) throw new TargetLost(key);
      let row: Row | null;
      try {
        row = asked(change, entry.row);
      } catch (e) {
        throw sent === undefined ? (e as OwnError).own : failed(true, e);
      }
      // [retain-cas]: one above the version that was read; a key of a higher era was replayed by a return.
      const version = nextVersion(entry.version, h.grant.fence_era);
      if (version === undefined) return new Error("authority has moved meanwhile");
      try {
        this.owned();
        // [tombstone]: a deleted key keeps its version for good, or its counter would begin again below it.
        const r = await this.target.write({ key, row, version, notAfter, only: entry.version, keep: true }, left());
        if (r.outcome === "applied") {
          h.count("write", "target", "serving", "ok");
          return undefined;
        }
        if (sent !== undefined) throw failed(true, unknown); // [retain-once]
        if (r.outcome !== "changed") throw failed(false, new Error(`the target answered ${r.outcome}`));
      } catch (e) {
        if (e instanceof TargetError) throw e;
        h.count("write", "target", "serving", "error");
        sent = entry.version;
        unknown = e;
      }
    }
  }
}

