// The HTTP API of migrator serve --api: docs/api.md.

export interface Route {
  phase: string;
  percent: number;
  epoch: number;
  shadow?: number;
}

export interface Mark {
  owner: string;
  incarnation: string;
  beat: number;
}

export interface Grant {
  lease: string;
  instance: string;
  route: Route;
  lease_ms: number;
  renew_ms: number;
  fence_era: number;
  reversible: boolean;
  config_hash: string;
  mark?: Mark;
  other_moves: boolean;
}

export interface Applied {
  file: {
    legacy?: { table?: string; version_column?: string };
    target?: { store?: string; key?: string; format?: string; version_field?: string; expires?: string };
    writing?: Record<string, unknown>;
  };
  columns?: { fields: { name: string; target: string; kind: string }[]; key: number[] };
  moves?: string;
}

export interface JournalEntry {
  key: string; // canonical text
  version: string; // 32 digits
  reason: string;
}

export interface JournalResult {
  route: Route;
  target_read: boolean;
  fenced: boolean;
}

/** A daemon's refusal. The codes are in docs/api.md. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly remedy: string,
  ) {
    super(remedy === "" ? detail : `${detail} (try: ${remedy})`);
  }

  /** Another daemon, or the same one later, may do what this one did not. */
  get again(): boolean {
    return this.status === 502 || this.status === 503 || this.status === 504;
  }
}

export function refusedWith(e: unknown, code: string): boolean {
  return e instanceof Refusal && e.code === code;
}

export const pause = (ms: number): Promise<void> => new Promise((over) => setTimeout(over, ms));

const base64url = (key: string): string => Buffer.from(key, "utf8").toString("base64url");

export class Api {
  private readonly urls: string[];
  private at = 0; // of the URLs: the one that answered last

  /** The URLs are the roots of daemons; the first one that answers is used until it fails. */
  constructor(
    private readonly migration: string,
    urls: string[],
    private readonly token: string,
  ) {
    if (urls.length === 0) throw new Error("want the address of a daemon");
    this.urls = urls.map((text) => {
      const url = new URL(text);
      if (url.protocol === "http:" && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)) {
        throw new Error(`${url.origin} is http:// off loopback: the token would be sent in clear text; try https://`);
      }
      return text.replace(/\/$/, "");
    });
  }

  private async send(url: string, method: string, path: string, body: string | undefined, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    // A redirect would send the token to another server.
    return fetch(`${url}/api/v1/migrations/${encodeURIComponent(this.migration)}${path}`, {
      method, headers, redirect: "manual", signal, ...(body === undefined ? {} : { body }),
    });
  }

  /** Asks each daemon in turn, until one does what is asked, or refuses it. Each request may be repeated. */
  private async request<T>(method: string, path: string, document?: unknown, within = 10_000): Promise<T> {
    const body = document === undefined ? undefined : JSON.stringify(document);
    const end = performance.now() + within;
    let failed: unknown;
    for (let n = 0; n < this.urls.length; n++) {
      const at = (this.at + (n === 0 ? 0 : 1)) % this.urls.length;
      this.at = at;
      // Each daemon gets its share of the time: one whose machine is gone must not use it up.
      const share = Math.ceil(Math.max((end - performance.now()) / (this.urls.length - n), 1));
      try {
        const answer = await this.send(this.urls[at]!, method, path, body, AbortSignal.timeout(share));
        const text = await answer.text();
        if (answer.status === 204) return undefined as T;
        if (answer.status === 200) return JSON.parse(text) as T;
        let problem: { code?: string; detail?: string; try?: string } = {};
        try {
          problem = JSON.parse(text);
        } catch {
          // of a proxy
        }
        throw new Refusal(answer.status, problem.code ?? "", problem.detail ?? `the daemon answered ${answer.status}`, problem.try ?? "");
      } catch (e) {
        if (e instanceof Refusal && !e.again) throw e;
        failed = e;
      }
    }
    throw failed;
  }

  applied(): Promise<Applied> {
    return this.request("GET", "/applied");
  }

  join(q: { lease: string; instance: string; about?: string; moves: string; previous?: string }): Promise<Grant> {
    return this.request("POST", "/leases", q, 5000);
  }

  renew(lease: string, acknowledged: number, within: number): Promise<Grant> {
    return this.request("POST", `/leases/${lease}/renew`, { acknowledged }, within);
  }

  leave(lease: string): Promise<void> {
    return this.request("DELETE", `/leases/${lease}`);
  }

  journal(entries: JournalEntry[], within: number): Promise<JournalResult> {
    return this.request("POST", "/journal", { entries: entries.map((e) => ({ ...e, key: base64url(e.key) })) }, within);
  }

  returnKey(epoch: number, key: string, within: number): Promise<void> {
    return this.request("POST", "/return", { epoch, keys: [base64url(key)] }, within);
  }

  rollback(epoch: number, reason: string, within: number): Promise<void> {
    return this.request("POST", "/rollback", { epoch, reason }, within);
  }

  routes(within: number): Promise<{ route: Route; target_read: boolean }> {
    return this.request("GET", "/routes", undefined, within);
  }

  reportStateLoss(instance: string, route: Route): Promise<void> {
    return this.request("POST", "/state-loss", { instance, route }, 5000);
  }

  observe(lease: string, windows: unknown[]): Promise<void> {
    return this.request("POST", `/leases/${lease}/windows`, { windows });
  }

  /** Follows the epochs until the signal. An event is a reason to renew, and nothing more. */
  async events(signal: AbortSignal, notify: (epoch: number) => void): Promise<void> {
    for (let n = 0; !signal.aborted; n++) {
      const silent = new AbortController();
      let timer = setTimeout(() => silent.abort(), 20_000); // a daemon sends a comment each 5 s
      try {
        const answer = await this.send(this.urls[n % this.urls.length]!, "GET", "/events", undefined, AbortSignal.any([signal, silent.signal]));
        let rest = "";
        if (answer.ok && answer.body !== null) {
          for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
            clearTimeout(timer);
            timer = setTimeout(() => silent.abort(), 20_000);
            const lines = (rest + part).split("\n");
            rest = lines.pop() ?? "";
            for (const line of lines) {
              const data = /^data:(.*)$/.exec(line)?.[1];
              if (data !== undefined) notify((JSON.parse(data) as { epoch: number }).epoch);
            }
          }
        }
      } catch {
        // Without events a new epoch arrives with the next renewal.
      } finally {
        clearTimeout(timer);
        silent.abort();
      }
      // Spread, so that clients that were disconnected together do not reconnect together.
      if (!signal.aborted) await pause(500 + Math.random() * 1000);
    }
  }
}
