// The engine beside onnxruntime-web and LiteRT.js, in one headless Chromium, on one thread: `make browser-bench`.
//
//     node benchmarks/browser/race.js BASE GRAPHS          GRAPHS: what graphs.py wrote
//
// A full history, and 100 candidates or the ten best of the whole table. Contenders take turns, one call at a time, so that a
// slow moment of the machine meets all of them; a figure is the fastest call, and a ratio is one of fastest calls. The first row is the
// build that `open` picks in this browser.

import { pathToFileURL } from "node:url";

import { BUILD, launch, lend, ROOT } from "../../tests/browser/chromium.js";

const [base, graphs] = process.argv.slice(2).map((folder) => new URL(`${pathToFileURL(folder)}/`));
const ROUNDS = Number(process.env.ROUNDS ?? 400);

/** Runs in the page. */
async function race(rounds) {
  const { fastest: pick, open } = await import("/package/index.js"), ort = await import("/ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = 1;
  const { items, length } = (await open("/base/")).shape;
  const history = Int32Array.from({ length }, (_, i) => (i * 977) % items);
  const candidates = Int32Array.from({ length: 100 }, (_, i) => Number((BigInt(i) * 2654435761n) % BigInt(items)));
  const long = (rows, dims) => new ort.Tensor("int64", BigInt64Array.from(rows, BigInt), dims);
  const asked = { history: long(history, [1, length]), candidates: long(candidates, [100]) };

  const contenders = {};
  for (const engine of [pick(), pick() === "relaxed" ? "simd128" : "relaxed"]) {
    const ranker = (await open("/base/", { engine })).fold();
    contenders[`engine, ${engine}`] = {
      candidates: () => ranker.scores(history, candidates),
      table: () => ranker.rank(history, { k: 10 }),
    };
  }
  for (const kind of ["fp32", "int8", "uint8", "blocks"]) {
    const load = (name) => ort.InferenceSession.create(`/graphs/${name}.${kind}.onnx`, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    const score = await load("score"), top = await load("top");
    contenders[`onnxruntime-web, ${kind}`] = {
      candidates: () => score.run(asked),
      table: () => top.run({ history: asked.history }),
    };
  }

  const { loadAndCompile, loadLiteRt, Tensor } = await import("/litert/core/dist/index.js");
  await loadLiteRt("/litert/core/wasm/", { threads: false });
  const given = [new Tensor(history, [length]), new Tensor(candidates, [100])];
  const answer = async (graph, inputs) => {
    const [one, ...others] = await graph.run(inputs), first = one.toTypedArray();
    [one, ...others].forEach((tensor) => tensor.delete());
    return first;
  };
  for (const form of ["float32", "int8"]) {
    const load = (name) => loadAndCompile(`/graphs/${name}.${form}.tflite`, { accelerator: "wasm" });
    const score = await load("score"), top = await load("top");
    contenders[`LiteRT.js, ${form}`] = { candidates: () => answer(score, given), table: () => answer(top, given.slice(0, 1)) };
  }

  const fastest = {};
  for (const task of ["candidates", "table"])
    for (let round = 0; round < rounds; round++)
      for (const [name, calls] of Object.entries(contenders)) {
        const started = performance.now();
        const answer = calls[task]();
        if (answer instanceof Promise) await answer;
        const took = (performance.now() - started) * 1000, times = (fastest[name] ??= {});
        times[task] = Math.min(times[task] ?? Infinity, took);
      }
  return { items, length, isolated: crossOriginIsolated, fastest };
}

const browser = await launch();
const server = await lend({
  "/tests/": new URL("tests/", ROOT), "/package/": new URL("packages/browser/", ROOT), "/base/": base, "/graphs/": graphs,
  "/ort/": new URL("node_modules/onnxruntime-web/dist/", BUILD), "/litert/": new URL("node_modules/@litertjs/", BUILD),
});
try {
  const page = await browser.newPage();
  await page.goto(`${server.origin}/tests/browser/empty.html`);
  await page.evaluate((map) => document.head.append(Object.assign(document.createElement("script"), { type: "importmap", textContent: map })),
    JSON.stringify({ imports: { "@litertjs/wasm-utils": "/litert/wasm-utils/dist/index.js" } }));
  const { items, length, isolated, fastest } = await page.evaluate(race, ROUNDS);
  console.log(`Chromium ${browser.version()}, one thread, ${length} events, ${items} rows; fastest of ${ROUNDS} calls${isolated ? "" : "; coarse clock"}`);
  const rows = Object.entries(fastest), ours = rows[0][1];
  console.log("| | 100 candidates, µs | × | the ten best of the table, µs | × |\n|---|--:|--:|--:|--:|");
  for (const [name, { candidates, table }] of rows)
    console.log(`| ${name} | ${candidates.toFixed(0)} | ${(candidates / ours.candidates).toFixed(2)} | ${table.toFixed(0)} | ${(table / ours.table).toFixed(2)} |`);
} finally {
  await browser.close();
  server.close();
}
