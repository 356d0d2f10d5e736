// Drives Chromium: one command a line of the input, one answer a line of the output, both JSON.
//
//   node browser.mjs DIRECTORY-OF-PACKAGES CHROMIUM
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , packages, executablePath] = process.argv;
const { chromium } = await import(pathToFileURL(join(packages, "playwright-core", "index.mjs")).href);
const axe = readFileSync(join(packages, "axe-core", "axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce" });
const page = await context.newPage();
page.setDefaultTimeout(120000);
const heard = [];
page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") heard.push(m.text()); });
page.on("pageerror", (e) => heard.push(String(e)));
page.on("request", (r) => { if (!r.url().startsWith("http://127.0.0.1:") && !r.url().startsWith("data:")) heard.push("a request to " + r.url()); });

const commands = {
  goto: async ({ url }) => { await page.goto(url, { waitUntil: "load" }); },
  look: async ({ width, height, scheme }) => {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  },
  // The text of a place, once it has what is wanted.
  wait: async ({ selector, text }) => {
    const place = page.locator(selector).filter({ hasText: text }).first();
    await place.waitFor({ state: "visible" });
    return place.innerText();
  },
  text: async ({ selector }) => page.locator(selector).first().innerText(),
  scroll: async ({ selector }) => { await page.locator(selector).first().evaluate((e) => e.scrollIntoView()); },
  click: async ({ selector }) => { await page.locator(selector).first().click(); },
  fill: async ({ selector, text }) => { await page.locator(selector).first().fill(text); },
  focus: async ({ selector }) => { await page.locator(selector).first().focus(); },
  press: async ({ text }) => { await page.keyboard.press(text); },
  focused: async () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim().slice(0, 60)),
  value: async ({ text }) => page.evaluate(text),
  shot: async ({ path, full }) => { await page.screenshot({ path, fullPage: !!full }); },
  // What axe-core finds, in its words. It runs beside the page's policy, which lets no other script in.
  axe: async () => {
    const session = await context.newCDPSession(page);
    await session.send("Runtime.evaluate", { expression: axe });
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      expression: "axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations.map((v) => v.id + ': ' + v.help + ' at ' + v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' (' + n.failureSummary + ')').join('; '))))",
      awaitPromise: true, returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return JSON.parse(result.value);
  },
  heard: async () => heard.splice(0),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: await commands[command.do](command) ?? null };
  } catch (e) {
    answer = { error: String(e), value: null };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
