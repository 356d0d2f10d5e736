// Legacy: one table of PostgreSQL, with a key of one bigint column, and columns of text or of whole numbers.
import pg from "pg";

export type Row = Record<string, string | null>;

/** The record's next state; null: it is deleted. It may be called again, so it must depend on its argument alone. */
export type Change = (current: Row | undefined) => Row | null;

/** What a legacy write has left, at the version that it got; undefined: legacy has, and had, no record. */
export type Written = { row: Row | null; version: string } | undefined;

const name = (text: string): string => text.split(".").map((part) => pg.escapeIdentifier(part)).join(".");

export class Legacy {
  private readonly pool: pg.Pool;
  private readonly table: string;
  private readonly key: string;
  private readonly list: string;
  private readonly version: string;

  constructor(url: string, migration: string, table: string, key: string, private readonly columns: string[]) {
    this.pool = new pg.Pool({ connectionString: url, max: 16 });
    this.pool.on("error", () => {}); // of an idle connection; the next operation opens another
    this.table = name(table);
    this.key = pg.escapeIdentifier(key);
    this.list = columns.map((c) => `${pg.escapeIdentifier(c)}::text AS ${pg.escapeIdentifier(c)}`).join(", ");
    this.version = `migrator_legacy.version(${pg.escapeLiteral(migration)})`;
  }

  close(): Promise<void> {
    return this.pool.end();
  }

  async read(key: string): Promise<Row | undefined> {
    const found = await this.pool.query<Row>(`SELECT ${this.list} FROM ${this.table} WHERE ${this.key} = $1`, [key]);
    return found.rows[0];
  }

  /** Makes a write in one transaction, and returns what it left. */
  async write(key: string, change: Change): Promise<Written> {
    for (let attempt = 0; ; attempt++) {
      const c = await this.pool.connect();
      let broken: Error | undefined;
      try {
        await c.query("BEGIN ISOLATION LEVEL READ COMMITTED");
        const written = await this.within(c, key, change);
        await c.query("COMMIT");
        return written;
      } catch (e) {
        broken = await c.query("ROLLBACK").then(() => undefined, (worse: Error) => worse);
        // Two transactions insert the same key: the loser finds the record, and changes that.
        if (attempt < 5 && sqlState(e) === "23505" && broken === undefined && (await this.read(key)) !== undefined) continue;
        throw e;
      } finally {
        c.release(broken);
      }
    }
  }

  private async within(c: pg.PoolClient, key: string, change: Change): Promise<Written> {
    const found = await c.query<Row>(`SELECT ${this.list} FROM ${this.table} WHERE ${this.key} = $1 FOR UPDATE`, [key]);
    const next = asked(change, found.rows[0]);
    // [version-at-lock]: the version comes from the RETURNING of the statement that writes, so while the row is locked.
    const returning = `RETURNING ${this.list}, ${this.version} AS " version"`;
    let done: pg.QueryResult<Row>;
    if (next === null) {
      if (found.rows.length === 0) return undefined;
      done = await c.query<Row>(`DELETE FROM ${this.table} WHERE ${this.key} = $1 ${returning}`, [key]);
    } else if (found.rows.length === 0) {
      const places = this.columns.map((_, n) => `$${n + 1}`).join(", ");
      const names = this.columns.map((n) => pg.escapeIdentifier(n)).join(", ");
      done = await c.query<Row>(`INSERT INTO ${this.table} (${names}) VALUES (${places}) ${returning}`, this.columns.map((n) => next[n] ?? null));
    } else {
      const sets = this.columns.map((n, at) => `${pg.escapeIdentifier(n)} = $${at + 2}`).join(", ");
      done = await c.query<Row>(`UPDATE ${this.table} SET ${sets} WHERE ${this.key} = $1 ${returning}`, [key, ...this.columns.map((n) => next[n] ?? null)]);
    }
    const { " version": version, ...row } = done.rows[0]!;
    return { row: next === null ? null : row, version: version! };
  }

  /**
   * The record as it is, at a version above all that were committed before: by a write that changes nothing. The fence
   * refuses it as any other, so its version never belongs to an era in which legacy takes no writes.
   */
  async locked(key: string): Promise<{ row: Row; version: string } | undefined> {
    const done = await this.pool.query<Row>(
      `UPDATE ${this.table} SET ${this.key} = ${this.key} WHERE ${this.key} = $1 RETURNING ${this.list}, ${this.version} AS " version"`, [key]);
    if (done.rows[0] === undefined) return undefined;
    const { " version": version, ...row } = done.rows[0];
    return { row, version: version! };
  }
}

function sqlState(e: unknown): string {
  return e instanceof pg.DatabaseError ? (e.code ?? "") : "";
}

/** The fence has refused the write: it has no effect. */
export const isFenced = (e: unknown): boolean => sqlState(e) === "MG001";

/** The write may have been committed: the connection broke before the server answered. */
export function isUncertain(e: unknown): boolean {
  if (e instanceof pg.DatabaseError) return /^(08|40003|57P0[12])/.test(sqlState(e));
  const syscall = (e as { syscall?: string }).syscall;
  return e instanceof OwnError ? false : syscall !== "connect";
}

/** Asks for the next state. */
export function asked(change: Change, current: Row | undefined): Row | null {
  try {
    return change(current);
  } catch (e) {
    throw new OwnError(e);
  }
}

/** An error of the application's own change: the transaction was rolled back. */
export class OwnError extends Error {
  constructor(readonly own: unknown) {
    super("the application's change failed");
  }
}
