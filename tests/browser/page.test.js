// examples/browser in Chromium: clicks, then the network off, then more clicks, and the list changes each time.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { after, before, it } from "node:test";

import { BUILD, launch, ROOT } from "./chromium.js";

const PYTHON = process.env.PYTHON ?? "python3", BASE = process.env.BASE; // a base with titles and a personalizer
const FOLDER = fileURLToPath(new URL("page/", BUILD)), SCRIPTS = fileURLToPath(new URL("examples/browser/", ROOT));
let browser, server, context, page, requests = [], faults = [];

before(async () => {
  execFileSync(PYTHON, [`${SCRIPTS}make.py`, BASE, "--out", FOLDER]);
  server = spawn(PYTHON, [`${SCRIPTS}serve.py`, BASE, FOLDER, "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  const [origin] = await new Promise((ready) => server.stdout.once("data", (line) => ready(String(line).split("\n"))));
  browser = await launch();
  context = await browser.newContext({ viewport: { width: 1100, height: 900 } });
  page = await context.newPage();
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => faults.push(error.message));
  await page.goto(origin);
  await page.waitForSelector("body.ready");
});
after(async () => { await browser?.close(); server?.kill(); });

const titlesOf = (list) => page.locator(`${list} button`).allInnerTexts();
const number = async (id) => Number(await page.locator(id).innerText());
const settled = () => page.waitForFunction(() => document.getElementById("ranking").getAnimations({ subtree: true }).length === 0);

/** Clicks the film at a place of the list, and gives the list after it. */
async function see(place) {
  const before = await titlesOf("#ranking");
  await page.locator("#ranking button").nth(place).click();
  const now = await titlesOf("#ranking");
  assert.notDeepEqual(now, before);
  assert.ok(!now.includes(before[place]), "what was seen is not offered again");
  assert.equal((await titlesOf("#history")).at(-1), before[place]);
  await settled();
  return now;
}

/** Tells whether films that stay in the list changed their order, or others took their places. */
const reordered = (before, now) => String(now.slice(0, 8)) !== String(before.filter((title) => now.includes(title)).slice(0, 8));

it("begins with everybody's list", async () => {
  const shown = await titlesOf("#ranking");
  assert.equal(shown.length, 12);
  assert.deepEqual(await titlesOf("#history"), []);
  assert.equal(await number("#payload"), 0);
});

it("a click ranks at once, and a payload comes for the profile", async () => {
  let before = await titlesOf("#ranking"), changes = 0;
  for (const place of [0, 3, 1]) {
    const now = await see(place);
    changes += reordered(before, now);
    before = now;
  }
  assert.ok(changes > 0, "more than what was seen has moved");
  await page.waitForFunction(() => Number(document.getElementById("payload").textContent) > 80);
  assert.equal(await number("#payload"), 368);
  assert.equal(await number("#profile"), 68);
  assert.ok((await number("#time")) > 0);
  assert.ok(requests.some((url) => url.endsWith("/payload")));
  await page.screenshot({ path: fileURLToPath(new URL("page-online.png", BUILD)) });
});

it("without a network it asks for nothing, and every click still changes the list", async () => {
  await page.locator("label.switch").click();
  await context.setOffline(true); // the page's word is one thing, the browser's another
  requests = [];
  let before = await titlesOf("#ranking"), changes = 0;
  for (const place of [2, 0, 5, 1]) {
    const now = await see(place);
    changes += reordered(before, now);
    before = now;
  }
  await page.locator("#history button").first().click();
  assert.notDeepEqual(await titlesOf("#ranking"), before);
  assert.ok(changes > 0);
  assert.deepEqual(requests, []);
  assert.match(await page.locator("#notice").innerText(), /^Nothing is sent\. 5 changes since/);
  await page.screenshot({ path: fileURLToPath(new URL("page-offline.png", BUILD)) });
});

it("a cloud that does not answer is told, and the list goes on", async () => {
  await page.locator("label.switch").click(); // on again, but the browser is still cut off
  await page.waitForFunction(() => document.getElementById("notice").textContent.startsWith("The cloud does not answer"));
  await see(0);
});

it("when it is back, so are the payloads", async () => {
  await context.setOffline(false);
  requests = [];
  const answered = page.waitForResponse((answer) => answer.url().endsWith("/payload"));
  await see(1);
  assert.equal((await answered).status(), 200);
  await page.waitForFunction(() => document.getElementById("notice").textContent === "");
});

it("a starting point brings a history and a payload of its own", async () => {
  while ((await titlesOf("#history")).length) await page.locator("#history button").first().click();
  const everybody = await titlesOf("#ranking");
  await page.locator("#personas button").first().click();
  assert.ok((await titlesOf("#history")).length >= 3);
  assert.notDeepEqual(await titlesOf("#ranking"), everybody);
});

it("a film is found by a part of its title", async () => {
  await page.locator("#search").fill("fargo");
  await page.locator("#found button").first().click();
  assert.match((await titlesOf("#history")).at(-1), /^Fargo/);
});

it("nothing went wrong on the way", () => assert.deepEqual(faults, []));
