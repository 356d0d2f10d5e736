// The target: one Redis server (no cluster) that has a hash for each record.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@redis/client";
import type { Mark } from "./api.ts";
import type { Row } from "./legacy.ts";

export const none = "0".repeat(32);
const isVersion = (v: unknown): v is string => typeof v === "string" && /^[0-9a-f]{32}$/.test(v);

/** What the target has of a key. Without a record the version is a tombstone's, or none. */
export interface Entry {
  row: Row | undefined;
  version: string;
}

export interface Outcome {
  outcome: "applied" | "older" | "late" | "foreign" | "changed";
  version: string;
}

export interface Write {
  key: string;
  row: Row | null; // null: deleted
  version: string;
  notAfter: number; // by the target's clock, in µs
  only?: string; // the version that the target must have
  keep?: boolean; // a tombstone has no end
}

export interface Shape {
  migration: string;
  template: string; // of a record's key, with the key's column in braces
  column: string; // the key's
  versionField: string;
  fields: { column: string; field: string }[];
  scripts: string; // the directory store/redis/scripts
}

class Script {
  readonly sha: string;
  constructor(readonly source: string) {
    this.sha = createHash("sha1").update(source).digest("hex");
  }
}

export class Target {
  tombstonesFor = 24 * 3600_000; // ms
  private readonly client;
  private readonly apply: Script;
  private readonly look: Script;
  private clock: { target: number; at: number } | undefined;

  constructor(url: string, private readonly shape: Shape) {
    // Nothing is queued while the connection is away: a command that waits there could land long after its caller has gone.
    this.client = createClient({
      url, disableOfflineQueue: true, socket: { connectTimeout: 2000, reconnectStrategy: (n: number) => Math.min(50 * 2 ** n, 1000) },
    });
    this.client.on("error", () => {}); // each operation gets its own
    const text = (file: string): string => readFileSync(join(shape.scripts, file), "utf8");
    this.apply = new Script(text("hash.lua") + text("apply.lua"));
    this.look = new Script(text("look.lua"));
  }

  /** Returns at once: an application starts also while the target is down. */
  connect(): void {
    this.client.connect().catch(() => {});
  }

  close(): void {
    this.client.destroy();
  }

  private async send(within: number, args: string[]): Promise<unknown> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, fail) => {
      timer = setTimeout(() => fail(new Error("the target did not answer in time")), Math.max(within, 1));
    });
    const answer = this.client.sendCommand(args) as Promise<unknown>;
    answer.catch(() => {}); // of one that comes after the time
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  private async run(within: number, script: Script, keys: string[], args: string[]): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.send(within, ["EVALSHA", script.sha, ...rest]);
    } catch (e) {
      // The server has not run it: sending it again is no second attempt.
      if (!(e instanceof Error) || !e.message.startsWith("NOSCRIPT")) throw e;
      return await this.send(within, ["EVAL", script.source, ...rest]);
    }
  }

  private names(key: string): [string, string] {
    const record = this.shape.template.replace(/\{\{|\}\}|\{[^{}]+\}/g, (m) => (m === "{{" ? "{" : m === "}}" ? "}" : key));
    const tag = /\{([^}]+)\}/.exec(record.slice(Math.max(record.indexOf("{"), 0)))?.[1];
    return [record, tag === undefined ? `migrator:v:{${record}}` : `migrator:v:{${tag}}${record}`];
  }

  async get(key: string, within: number): Promise<Entry> {
    const [record, sidecar] = this.names(key);
    const fields = this.shape.fields.map((f) => f.field);
    const [kind, remembered, , values] = (await this.run(within, this.look, [record, sidecar], ["hash", this.shape.versionField, ...fields])) as
      [string, string | null, number, (string | null)[] | null];
    if (kind === "none") return { row: undefined, version: isVersion(remembered) ? remembered : none };
    // [owned-only]: what has no version is another program's.
    if (kind !== "hash" || values === null || !isVersion(values[0])) throw new Error(`the target has a value under the key ${record} that is not the migration's`);
    return { row: Object.fromEntries(this.shape.fields.map((f, n) => [f.column, values[n + 1] ?? null])), version: values[0] };
  }

  /** [newer-only]: the published script compares and writes in one step. */
  async write(w: Write, within: number): Promise<Outcome> {
    const fields: string[] = [];
    for (const { column, field } of this.shape.fields) {
      const value = w.row?.[column];
      if (value !== null && value !== undefined) fields.push(field, value); // NULL is an absent field
    }
    const letters = (w.row === null ? "d" : "") + (w.keep === true ? "k" : "");
    // [tombstone]: the version of a deleted record stays for the horizon.
    const args = [w.notAfter.toFixed(0), this.tombstonesFor.toFixed(0), this.shape.versionField,
      w.version, w.only ?? "", letters, "", String(fields.length), ...fields];
    const reply = (await this.run(within, this.apply, this.names(w.key), args)) as [Outcome["outcome"], string];
    return { outcome: reply[0], version: reply[1] };
  }

  /** Reads the target's clock. */
  async sample(within: number): Promise<void> {
    const [seconds, micros] = (await this.send(within, ["TIME"])) as [string, string];
    this.clock = { target: Number(seconds) * 1e6 + Number(micros), at: performance.now() };
  }

  /**
   * A time that the target's clock has certainly reached, in µs. [not-after]: a lower bound. One ahead of that clock would
   * let a change land later than its write permits; one behind it costs a refusal.
   */
  async now(within: number): Promise<number> {
    if (this.clock === undefined || performance.now() - this.clock.at > 60_000) {
      await this.sample(within).catch((e: unknown) => {
        if (this.clock === undefined) throw e;
      });
    }
    const c = this.clock!;
    return c.target + Math.max(performance.now() - c.at - 20, 0) * 1000;
  }

  /** [mark-checked]: why the target is not the migration's; undefined: it is. An error: it did not answer. */
  async lost(m: Mark, within: number): Promise<string | undefined> {
    const [owner, incarnation, beat] = (await this.send(within, ["HMGET", `migrator:v:{10}*mark:${this.shape.migration}`, "owner", "incarnation", "beat"])) as
      (string | null)[];
    if (owner === null) return "the target lacks the migration's mark";
    if (owner !== m.owner || incarnation !== m.incarnation) return "the target has another's mark";
    return Number(beat) < m.beat ? "the target is older than its last confirmed beat" : undefined;
  }
}
