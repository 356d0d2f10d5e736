// What a route means: the table of phases of docs/protocol.md.
import type { Route } from "./api.ts";

export interface Behaviour {
  reads: "legacy" | "split" | "target";
  fallback: boolean; // a failed target read is answered by legacy
  writes: "legacy" | "background" | "both" | "target" | "wait";
}

// [fenced-no-fallback]: no phase from fenced on has a fallback.
const behaviours: Record<string, Behaviour> = {
  "legacy": { reads: "legacy", fallback: false, writes: "legacy" },
  "shadow-write": { reads: "legacy", fallback: false, writes: "background" },
  "dual-read": { reads: "legacy", fallback: false, writes: "both" },
  "cutover": { reads: "split", fallback: true, writes: "both" },
  "grace": { reads: "target", fallback: true, writes: "both" },
  "fenced": { reads: "target", fallback: false, writes: "wait" },
  "lifting": { reads: "target", fallback: false, writes: "wait" },
  "returning": { reads: "target", fallback: false, writes: "wait" },
  "retain": { reads: "target", fallback: false, writes: "target" },
  "complete": { reads: "target", fallback: false, writes: "target" },
};

export function behaviourOf(route: Route): Behaviour {
  const b = behaviours[route.phase];
  // [known-phase]: an old program that took a new phase for legacy would write past the target.
  if (b === undefined) throw new Error(`the phase ${route.phase} is not known: this program is older than the migration's state`);
  return b;
}

export const sameRoute = (a: Route, b: Route): boolean =>
  a.phase === b.phase && a.percent === b.percent && a.epoch === b.epoch && a.shadow === b.shadow;

/** Whether the share of keys of a cutover contains the key: so every process reads it from the same store. */
export function takes(percent: number, key: string): boolean {
  return xxh64(Buffer.from(key, "utf8")) % 10000n < BigInt(Math.round(percent * 100));
}

const mask = 0xffffffffffffffffn;
const p1 = 0x9e3779b185ebca87n;
const p2 = 0xc2b2ae3d27d4eb4fn;
const p3 = 0x165667b19e3779f9n;
const p4 = 0x85ebca77c2b2ae63n;
const p5 = 0x27d4eb2f165667c5n;
const left = (x: bigint, n: bigint): bigint => ((x << n) | (x >> (64n - n))) & mask;
const round = (sum: bigint, lane: bigint): bigint => (left((sum + lane * p2) & mask, 31n) * p1) & mask;

/** XXH64 with the seed 0. */
export function xxh64(b: Buffer): bigint {
  let at = 0;
  let h: bigint;
  if (b.length >= 32) {
    const v: [bigint, bigint, bigint, bigint] = [(p1 + p2) & mask, p2, 0n, -p1 & mask];
    for (; at + 32 <= b.length; at += 32) {
      for (let n = 0; n < 4; n++) v[n] = round(v[n]!, b.readBigUInt64LE(at + 8 * n));
    }
    h = (left(v[0], 1n) + left(v[1], 7n) + left(v[2], 12n) + left(v[3], 18n)) & mask;
    for (const one of v) h = ((h ^ round(0n, one)) * p1 + p4) & mask;
  } else {
    h = p5;
  }
  h = (h + BigInt(b.length)) & mask;
  for (; at + 8 <= b.length; at += 8) h = (left(h ^ round(0n, b.readBigUInt64LE(at)), 27n) * p1 + p4) & mask;
  if (at + 4 <= b.length) {
    h = (left(h ^ ((BigInt(b.readUInt32LE(at)) * p1) & mask), 23n) * p2 + p3) & mask;
    at += 4;
  }
  for (; at < b.length; at++) h = (left(h ^ ((BigInt(b[at]!) * p5) & mask), 11n) * p1) & mask;
  h = ((h ^ (h >> 33n)) * p2) & mask;
  h = ((h ^ (h >> 29n)) * p3) & mask;
  return h ^ (h >> 32n);
}
