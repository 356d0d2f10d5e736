// A process's part in a migration: a lease, the route that came with it, and the operations in flight.
import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { pause, refusedWith, type Api, type Applied, type Grant, type JournalEntry, type Mark, type Route } from "./api.ts";
import { behaviourOf, sameRoute, type Behaviour } from "./route.ts";

/** The instance has left, or is leaving: the operation was not begun. */
export class Left extends Error {
  constructor() {
    super("the instance has left the migration");
  }
}

/**
 * Milliseconds of a clock that only grows, and runs in suspend. On Linux Node's own clock stands still in suspend: a lease
 * counted by it would outlive the state's count. /proc/uptime is CLOCK_BOOTTIME, cut to 10 ms.
 */
const clock: () => number = process.platform === "linux"
  ? () => Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * 1000
  : () => performance.now();

const slack = 20 + 10; // ms, of clocks that differ in rate, and of the clock's resolution

class Lease {
  private deadline = 0;
  constructor(readonly id: string) {}

  /** [lease-own-clock]: from before the request was sent, since the state began to count before the answer arrived. */
  extend(sent: number, ms: number): void {
    this.deadline = sent + ms - slack;
  }

  /** It never becomes valid again: a new lease is another one. */
  end(): void {
    this.deadline = 0;
  }

  get remaining(): number {
    return this.deadline - clock();
  }

  get valid(): boolean {
    return this.remaining > 0;
  }
}

/** The applied settings of writes, in ms. */
export interface Writing {
  policy: string;
  deadline: number;
  notAfter: number;
  rollbackBudget: number;
  fenceBudget: number;
  queue: number;
  tombstones: number;
}

const unit: Record<string, number> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 0.001, "µs": 0.001, ns: 0.000001 };

export function duration(text: unknown, unset: number): number {
  if (text === undefined) return unset;
  let sum = 0;
  const rest = String(text).replace(/(\d+(?:\.\d+)?)(ms|us|µs|ns|[dhms])/g, (_, n: string, u: string) => {
    sum += Number(n) * unit[u]!;
    return "";
  });
  if (rest !== "" && rest !== "0") throw new Error(`the duration ${String(text)} of the applied migration file can't be read`);
  return sum;
}

export function writingOf(a: Applied): Writing {
  const w = a.file.writing ?? {};
  return {
    policy: String(w["on_target_failure"] ?? "rollback"),
    deadline: duration(w["deadline"], 1000),
    // [not-after-applied]: as applied, never longer: barriers and returns wait for that time.
    notAfter: duration(w["not_after"], 10_000),
    rollbackBudget: duration(w["rollback_budget"], 1000),
    fenceBudget: duration(w["fence_budget"], 2000),
    queue: Number(w["queue"] ?? 1000),
    tombstones: duration(w["tombstones"], 24 * 3_600_000),
  };
}

/** One route of an instance, immutable but for its counts. */
export class Pinned {
  readonly does: Behaviour;
  inFlight = 0;
  over = false; // another route has replaced it
  readonly counts = new Map<string, number>(); // of telemetry, not reported yet
  constructor(readonly route: Route, readonly lease: Lease, readonly grant: Grant, readonly writing: Writing) {
    this.does = behaviourOf(route);
  }

  count(operation: string, store: string, role: string, outcome: string): void {
    const series = `${operation} ${store} ${role} ${outcome}`;
    this.counts.set(series, (this.counts.get(series) ?? 0) + 1);
  }
}

/** Keeps an operation's route until it is released. */
export class Pin {
  private held = true;
  constructor(private readonly instance: Instance, readonly h: Pinned) {
    h.inFlight++;
  }

  /** A second pin, for work that outlives the operation. [drain-queue]: taken while the first one still keeps the route. */
  extend(): Pin {
    return new Pin(this.instance, this.h);
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    this.h.inFlight--; // last: from here on the epoch may be acknowledged without this operation
    if (this.h.over) this.instance.wakeUp();
  }
}

export interface Hooks {
  follow(w: Writing): void; // the applied settings, at each change
  lost(m: Mark, within: number): Promise<string | undefined>; // of Target
  sample(within: number): Promise<void>;
  log(message: string, error?: unknown): void;
}

export class Instance {
  /** Why the target is not used: it has not the migration's mark. */
  targetLost: string | undefined;

  private pinned!: Pinned;
  private retired: Pinned[] = []; // replaced, oldest first, until they have drained
  private reports: Pinned[] = []; // with counts that may not be reported yet
  private acknowledged = -1; // as the state last received it
  private previous: string | undefined; // the lease that the state granted last
  private notified = 0;
  private asked = false;
  private closed = false;
  private unclean = false;
  private wake: () => void = () => {};
  private readonly stopped = new AbortController();
  private readonly working: Promise<void>[] = [];
  private readonly pending: { entry: JournalEntry; pin: Pin; acknowledged: boolean }[] = [];
  private readonly incarnation = randomUUID();
  private sequence = 0;
  private windowFrom = performance.now();

  private constructor(
    readonly api: Api,
    readonly name: string,
    private readonly moves: string,
    private readonly hooks: Hooks,
  ) {}

  /** Takes a lease and reads the route: it must succeed before the first operation. */
  static async join(api: Api, applied: Applied, hooks: Hooks): Promise<Instance> {
    // [join-described]: this program moves by the daemon's answer, and by nothing else.
    if (applied.moves === undefined) throw new Error("no columns are applied: run migrator apply");
    const i = new Instance(api, `${hostname()}-${process.pid}-${randomBytes(3).toString("hex")}`, applied.moves, hooks);
    const sent = clock(); // [lease-own-clock]: before the request
    const g = await i.take(undefined);
    try {
      i.enter(g, sent, writingOf(applied));
      i.acknowledged = g.route.epoch; // nothing was in flight before
    } catch (e) {
      // No operation has begun under it. Left to expire, it would block advances until an eviction.
      await api.leave(g.lease).catch(() => {});
      throw e;
    }
    await i.lookAtMark();
    i.working.push(i.maintain(), i.journalPending(), i.watch());
    void api.events(i.stopped.signal, (epoch) => {
      // Only upwards, and it changes no route: it is a reason to ask for it.
      if (epoch > i.notified) i.notified = epoch;
      i.wakeUp();
    });
    return i;
  }

  get route(): Route {
    return this.pinned.route;
  }

  /** [pinned-route], [drain-reads], [drain-writes]: one route for the whole operation, counted until it is answered. */
  pin(): Pin {
    if (this.closed) throw new Left();
    return new Pin(this, this.pinned);
  }

  /** Makes the instance renew now. */
  ask(): void {
    this.asked = true;
    this.wakeUp();
  }

  wakeUp(): void {
    this.wake();
  }

  /** Queues what is still to be journaled. Each entry pins its route: no later epoch is acknowledged before it. */
  queue(p: Pin, entry: JournalEntry, acknowledged: boolean): void {
    if (this.pending.length >= 10_000) {
      // [unclean-mark]: it is given up, so the instance must not leave as if it had been delivered.
      this.unclean = true;
      this.hooks.log("a change reached neither the target nor the journal: the journal's queue is full");
      return;
    }
    this.pending.push({ entry, pin: p.extend(), acknowledged });
  }

  /** Waits for an epoch after h's under which writes don't wait. The caller has no route pinned. */
  async next(h: Pinned, until: number): Promise<boolean> {
    for (;;) {
      if (this.closed) throw new Left();
      // Only a later epoch ends the wait: under the same one the write would be refused again.
      if (this.pinned.route.epoch > h.route.epoch && this.pinned.does.writes !== "wait") return true;
      if (performance.now() >= until) return false;
      this.ask();
      await pause(20);
    }
  }

  /** Refuses new operations, waits for those in flight, and ends the lease. */
  async leave(within = 30_000): Promise<void> {
    this.closed = true;
    const end = performance.now() + within;
    // [leave-drained]: operations, background writes and changes that wait for the journal all pin a route. The lease is
    // renewed meanwhile.
    while (this.inFlight() > 0 && performance.now() < end) await pause(20);
    const left = this.inFlight();
    this.stopped.abort();
    this.wakeUp();
    await Promise.all(this.working);
    if (left === 0) await this.report().catch(() => {});
    const lease = this.pinned.lease;
    lease.end();
    // [unclean-mark]: the lease is not ended: it lapses in the state, and that marks the migration.
    if (left > 0 || this.unclean) throw new Error(`left uncleanly: ${left} operations in flight; the migration needs a full reconcile before cutover`);
    await this.api.leave(lease.id);
  }

  private inFlight(): number {
    return this.pinned.inFlight + this.retired.reduce((sum, h) => sum + h.inFlight, 0);
  }

  /** The request names the lease, so that one that arrives twice takes one lease. */
  private async take(previous: string | undefined): Promise<Grant> {
    for (;;) {
      const lease = randomBytes(20).toString("hex");
      try {
        return await this.api.join({
          lease, instance: this.name, about: `TypeScript, Node.js ${process.version}`, moves: this.moves,
          // [rejoin-epoch]: the new lease starts at the epoch that the former one had acknowledged.
          ...(previous === undefined ? {} : { previous }),
        });
      } catch (e) {
        if (!refusedWith(e, "lease-lost")) throw e;
        previous = lease; // a request before this one took it, and its answer was lost for as long as it lasted
      }
    }
  }

  private enter(g: Grant, sent: number, w: Writing): void {
    const lease = new Lease(g.lease);
    lease.extend(sent, g.lease_ms);
    this.swap(new Pinned(g.route, lease, g, w));
    this.acknowledged = -1;
    this.previous = g.lease;
  }

  private swap(h: Pinned): void {
    const old = this.pinned as Pinned | undefined;
    this.pinned = h;
    this.reports.push(h);
    this.hooks.follow(h.writing);
    if (old === undefined) return;
    old.over = true;
    this.retired.push(old);
  }

  /** The epoch that the instance has reached with all its operations: of the oldest route that still has some. */
  private reached(): number {
    // [drain-reads], [drain-writes], [drain-queue]: oldest first.
    while (this.retired[0]?.inFlight === 0) this.retired.shift();
    return (this.retired[0] ?? this.pinned).route.epoch;
  }

  private async maintain(): Promise<void> {
    let failures = 0;
    while (!this.stopped.signal.aborted) {
      let wait: number;
      try {
        wait = await this.synchronize();
        if (failures > 0) this.hooks.log("a daemon answers again");
        failures = 0;
      } catch (e) {
        if (failures === 0) this.hooks.log("no renewal; the route stays as it is", e);
        wait = Math.min(100 * 2 ** Math.min(failures, 5), 3000);
        failures++;
      }
      const end = performance.now() + wait * (0.9 + Math.random() / 5); // a fleet that started together does not renew together
      while (!this.stopped.signal.aborted && performance.now() < end && (failures > 0 || !this.due())) {
        let timer: NodeJS.Timeout | undefined;
        await new Promise<void>((woken) => {
          this.wake = woken;
          timer = setTimeout(woken, end - performance.now());
        });
        clearTimeout(timer);
      }
    }
  }

  private due(): boolean {
    return this.asked || this.notified > this.pinned.route.epoch || !this.pinned.lease.valid || this.reached() !== this.acknowledged;
  }

  /** Renews, or joins again, until nothing more is to be acknowledged. Returns when to renew next. */
  private async synchronize(): Promise<number> {
    for (;;) {
      this.asked = false;
      const notified = this.notified;
      let g: Grant | undefined;
      if (this.pinned.lease.valid) {
        try {
          g = await this.renew();
        } catch (e) {
          if (!refusedWith(e, "lease-lost")) throw e;
        }
      }
      if (g === undefined) {
        // [lease-final], [lapsed-reads]: ended before the request for another one.
        this.pinned.lease.end();
        g = await this.rejoin();
      }
      if (this.notified === notified) this.notified = 0; // the answer is as new
      if (this.reached() === this.acknowledged) return Math.min(g.renew_ms, g.lease_ms / 2);
    }
  }

  private async renew(): Promise<Grant> {
    const lease = this.pinned.lease;
    const reached = this.reached();
    const sent = clock(); // [lease-own-clock]
    const g = await this.api.renew(lease.id, reached, Math.min(Math.max(lease.remaining, 1), 5000));
    this.accept(g);
    this.acknowledged = reached;
    if (lease.valid) lease.extend(sent, g.lease_ms);
    const h = this.pinned;
    const w = await this.writing(g);
    if (!sameRoute(g.route, h.route) || g.fence_era !== h.grant.fence_era || g.reversible !== h.grant.reversible || g.config_hash !== h.grant.config_hash) {
      this.swap(new Pinned(g.route, lease, g, w));
      this.hooks.log(`the route is ${g.route.phase} ${g.route.percent} of epoch ${g.route.epoch}`);
    }
    return g;
  }

  private async rejoin(): Promise<Grant> {
    const sent = clock(); // [lease-own-clock]
    const g = await this.take(this.previous);
    this.previous = g.lease;
    this.accept(g);
    this.enter(g, sent, await this.writing(g));
    this.hooks.log("the lease had expired; joined again");
    return g;
  }

  private async writing(g: Grant): Promise<Writing> {
    const h = this.pinned;
    if (g.config_hash === h.grant.config_hash) return h.writing;
    // [fields-acknowledged]: the state withholds the acknowledgment from one that moves something else.
    if (g.other_moves) this.hooks.log("this instance moves something else than what is applied: restart it");
    else {
      try {
        return writingOf(await this.api.applied());
      } catch (e) {
        this.hooks.log("the applied settings can't be read; the present ones stay", e);
      }
    }
    g.config_hash = ""; // what is counted from here on is no evidence for it, and the next renewal tries again
    return h.writing;
  }

  private accept(g: Grant): void {
    behaviourOf(g.route); // [known-phase]
    const h = this.pinned.route;
    if (g.route.epoch < h.epoch) {
      // [epoch-grows], [loss-held]: the state has lost transactions. It must know of this route.
      this.api.reportStateLoss(this.name, h).catch((e: unknown) => this.hooks.log("the state loss could not be reported", e));
      throw new Error(`the state is at epoch ${g.route.epoch}, this instance has been at ${h.epoch}: the state has lost transactions`);
    }
    if (g.route.epoch === h.epoch && !sameRoute(g.route, h)) {
      throw new Error(`epoch ${h.epoch} is another route in the state than here: the state has lost transactions`); // [epoch-route]
    }
  }

  /** Journals what is queued, however long no daemon answers. */
  private async journalPending(): Promise<void> {
    for (let failures = 0; !this.stopped.signal.aborted; ) {
      const batch = this.pending.slice(0, 500);
      if (batch.length === 0) {
        await pause(50);
        continue;
      }
      try {
        const result = await this.api.journal(batch.map((b) => b.entry), 5000);
        failures = 0;
        const acknowledged = batch.some((b) => b.acknowledged);
        if (result.fenced) {
          this.hooks.log("changes reached neither the target nor the journal: authority has moved");
          if (acknowledged) this.unclean = true; // [unclean-mark]
        } else if (result.target_read && acknowledged && this.pinned.writing.policy === "rollback") {
          // [both-before-ack]: acknowledged before the failure was known, and the target is read by now.
          await this.api.rollback(batch[0]!.pin.h.route.epoch, batch[0]!.entry.reason, 5000).catch((e: unknown) => this.hooks.log("the rollback failed", e));
          this.ask();
        }
      } catch (e) {
        if (failures === 0) this.hooks.log(`the journal is unreachable; ${this.pending.length} keys wait`, e);
        await pause(Math.min(100 * 2 ** failures++, 2000));
        continue;
      }
      this.pending.splice(0, batch.length);
      for (const b of batch) b.pin.release();
    }
  }

  /** Looks at the target's mark and clock, and sends what was counted. */
  private async watch(): Promise<void> {
    for (let n = 1; !this.stopped.signal.aborted; n++) {
      const h = this.pinned;
      const until = performance.now() + 2000;
      while (!this.stopped.signal.aborted && !h.over && performance.now() < until) await pause(50);
      await this.lookAtMark();
      if (this.pinned.does.writes !== "legacy") await this.hooks.sample(this.pinned.writing.deadline).catch(() => {}); // the writes that need it report it
      if (n % 2 === 0) await this.report().catch((e: unknown) => this.hooks.log("what was counted could not be handed in", e));
    }
  }

  /** [mark-lost]: a target without the mark counts as failed. One that does not answer proves nothing. */
  private async lookAtMark(): Promise<void> {
    const { mark } = this.pinned.grant;
    if (mark === undefined || this.pinned.does.writes === "legacy") return;
    try {
      const why = await this.hooks.lost(mark, this.pinned.writing.deadline);
      if (why !== this.targetLost) this.hooks.log(why ?? "the target has the migration's mark again");
      this.targetLost = why;
    } catch {
      // It did not answer.
    }
  }

  /** Sends one window for each route that has counts. */
  private async report(): Promise<void> {
    const now = performance.now();
    const windows = [];
    for (const h of this.reports) {
      if (h.counts.size === 0 || h.grant.config_hash === "") continue;
      const counts = [...h.counts].map(([series, n]) => {
        const [operation, store, role, outcome] = series.split(" ");
        return { operation, store, role, outcome, n };
      });
      h.counts.clear();
      windows.push({
        incarnation: this.incarnation, instance: this.name, sequence: this.sequence++, epoch: h.route.epoch, config_hash: h.grant.config_hash,
        length_ms: Math.round(now - this.windowFrom), age_ms: 0, counts,
      });
    }
    this.windowFrom = now;
    this.reports = this.reports.filter((h) => !h.over || h.inFlight > 0 || h === this.pinned);
    if (windows.length > 0) await this.api.observe(this.pinned.lease.id, windows);
  }
}
