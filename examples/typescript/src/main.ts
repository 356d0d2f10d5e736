// A process that reads and writes records as it is asked to: one command a line of the input, one answer a line of the
// output, both JSON. Commands overlap; each answer has its command's number.
//
//   OPTIONS='{"migration":"items",…}' node dist/main.js
import { createInterface } from "node:readline";
import { Records, type Options } from "./records.ts";
import { takes, xxh64 } from "./route.ts";

const options = JSON.parse(process.env["OPTIONS"] ?? "{}") as Options;
const records = await Records.open({ ...options, log: (message, error) => console.error(message, error ?? "") });

interface Command {
  id: number;
  do: string;
  key: string;
  column: string;
  value: string | null;
  percent: number;
}

const commands: Record<string, (c: Command) => unknown> = {
  route: () => records.instance.route,
  read: (c) => records.read(c.key),
  write: (c) => records.write(c.key, (current) => ({ ...current, id: c.key, [c.column]: c.value })),
  delete: (c) => records.write(c.key, () => null),
  hash: (c) => xxh64(Buffer.from(c.key, "utf8")).toString(),
  takes: (c) => takes(c.percent, c.key),
  leave: () => records.close(),
};

async function answer(c: Command): Promise<void> {
  let said: object;
  try {
    said = { value: (await commands[c.do]?.(c)) ?? null };
  } catch (e) {
    said = { error: e instanceof Error ? e.message : String(e), legacy: (e as { legacy?: boolean }).legacy ?? false };
  }
  process.stdout.write(JSON.stringify({ id: c.id, ...said }) + "\n");
}

process.stdout.write(JSON.stringify({ id: 0, value: records.instance.name }) + "\n");
for await (const line of createInterface({ input: process.stdin })) void answer(JSON.parse(line) as Command);
