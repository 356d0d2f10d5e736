// Evaluates flags by OpenFeature's SDK for servers and its provider for OFREP: one command a line of the input, one answer a
// line of the output, both JSON.
//
//   node node.mjs URL TOKEN
import { createInterface } from "node:readline";
import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

const [, , baseUrl, token] = process.argv;
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, headers: [["Authorization", "Bearer " + token]] }));
const client = OpenFeature.getClient();

const commands = {
  text: async ({ flag, key }) => client.getStringDetails(flag, "the default", { targetingKey: key }),
  object: async ({ flag }) => client.getObjectDetails(flag, {}),
  boolean: async ({ flag, key }) => client.getBooleanDetails(flag, false, { targetingKey: key }),
  texts: async ({ flag, keys }) => Promise.all(keys.map((key) => client.getStringValue(flag, "the default", { targetingKey: key }))),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: await commands[command.do](command) };
  } catch (e) {
    answer = { error: String(e), value: null };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
