// Both builds of the engine held to tests/vectors in Chromium, whose arithmetic is not Node's: rankings exactly, floats within 1e-5.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";

import { launch, lend, ROOT } from "./chromium.js";

let browser, server, page;

before(async () => {
  browser = await launch();
  server = await lend({ "/tests/": new URL("tests/", ROOT), "/package/": new URL("packages/browser/", ROOT) });
  page = await browser.newPage();
  await page.goto(`${server.origin}/tests/browser/empty.html`);
});
after(async () => { await browser?.close(); server?.close(); });

/** Runs in the page: how far every case is from what is told. */
async function judge([engine, folder]) {
  const { open } = await import("/package/index.js"), { relaxedDot } = await import("/package/files.js");
  const told = await (await fetch(`/tests/vectors/${folder}vectors.json`)).json(), faults = [];
  const base = await open(`/tests/vectors/${folder}base/`, { engine });
  let cases = 0;
  const near = (got, told) => {
    const bound = 1e-5 * Math.max(0, ...told.filter((x) => x !== null).map(Math.abs));
    return told.every((x, i) => (x === null ? got[i] === -Infinity : Math.abs(got[i] - x) <= bound));
  };
  for (const { adaptation, history: name, numpy_int8: expected } of told.cases) {
    const payload = Uint8Array.from(told.adaptations[adaptation].payload.match(/../g), (byte) => parseInt(byte, 16));
    const ranker = base.fold(payload, { allowUnsigned: true }), history = told.histories[name], { candidates } = told;
    const ranked = ranker.rank(history, { candidates, k: candidates.length });
    const right = near(ranker.state(history), expected.state) && near(ranker.scores(history, candidates), expected.scores) &&
      String([...ranked.positions]) === String(expected.ranking);
    if (!right) faults.push(`${adaptation}, ${name}`);
    cases++;
  }
  return { engine: base.engine, relaxed: relaxedDot() !== null, cases, faults };
}

for (const engine of ["simd128", "relaxed"])
  for (const folder of ["", "caser/", "gru4rec/", "tail/", "valves/"])
    it(`${folder || "sasrec/"} on ${engine}`, async () => {
      const found = await page.evaluate(judge, [engine, folder]);
      assert.deepEqual(found, { engine, relaxed: true, cases: found.cases, faults: [] });
      assert.ok(found.cases >= 30);
    });
