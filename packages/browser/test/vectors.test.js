// The package held to tests/vectors, on both builds of the engine: bytes, refusals, rankings and the integer sums behind scores
// exactly, floats within the file's bound. OSSIA_VECTORS names another folder of such vectors.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";

import { fetchBase, relaxedDot } from "../files.js";
import { open, OssiaError } from "../index.js";
import { Machine } from "../machine.js";

const OTHERS = process.env.OSSIA_VECTORS;
const VECTORS = OTHERS ? pathToFileURL(`${OTHERS}/`) : new URL("../../../tests/vectors/", import.meta.url);
const KINDS = ["caser", "gru4rec", "valves", "tail", "basis"];
const FOLDERS = OTHERS ? { others: "" } : { sasrec: "", ...Object.fromEntries(KINDS.map((kind) => [kind, `${kind}/`])) };
const WHOLE = 16, UNSIGNED = 2;

/** The module that shows what it folded, too: the same sources, and all of ossia.h. */
const tellingModule = (engine) => WebAssembly.compile(readFileSync(new URL(`../../../build/wasm/engine-${engine}.wasm`, import.meta.url)));

/** Reads what a payload folds to: each slot's values and scales, each row's values and scale. */
function foldedOf(machine, slots, { items, dim }, payload) {
  const { memory, model } = machine, { exports } = memory;
  const weights = memory.place(machine.weightsBytes), values = memory.place(1 << 20), scale = memory.place(1 << 16);
  const read = (name, index, inputs, channels) => {
    assert.equal(exports[name](model, weights, index, values, scale), 0);
    return { values: new Int8Array(memory.bytes(values, channels * inputs).slice().buffer), scale: memory.floats(scale, channels).slice() };
  };
  machine.fold(payload, UNSIGNED | WHOLE, weights);
  return {
    slots: slots.map(({ channels, inputs }, i) => read("ossia_slot", i, inputs, channels)),
    rows: Array.from({ length: items }, (_, row) => read("ossia_row", row, dim, 1)),
  };
}

/** Hashes it as the vectors do: slot by slot values and scales, then the rows' values, then their scales. */
function digestOf({ slots, rows }) {
  const hash = createHash("sha256");
  slots.forEach(({ values, scale }) => hash.update(values).update(scale));
  rows.forEach(({ values }) => hash.update(values));
  rows.forEach(({ scale }) => hash.update(scale));
  return hash.digest("hex");
}

/** Scores every row outside of the history as docs/base-format.md says: Σ state · row in integers, then one float32 factor. With a tail
 *  rows that are not held are left to the cases. */
function assertRowsMatch(ranker, rows, history, tail) {
  const float = Math.fround, state = ranker.state(history), own = float(Math.max(...state.map(Math.abs)) / 127);
  const rounded = [...state].map((x) => Math.sign(x) * Math.floor(Math.abs(float(x / own)) + 0.49999997));
  const scores = ranker.scores(history, rows.map((_, row) => row));
  rows.forEach(({ values, scale: [scale] }, row) => {
    if (history.includes(row)) return; // at 8 bits, whatever the payload says
    const sum = values.reduce((total, value, i) => total + value * rounded[i], 0);
    if (scale > 0 || !tail) assert.equal(scores[row], scale > 0 ? float(float(sum) * float(own * scale)) : -Infinity, `row ${row}`);
  });
}

/** Null is −∞, exactly; the others are within a bound, of the largest. */
function assertClose(got, told, of = 1e-5) {
  const bound = of * Math.max(0, ...told.filter((x) => x !== null).map(Math.abs));
  assert.equal(got.length, told.length);
  told.forEach((x, i) => assert.ok(x === null ? got[i] === -Infinity : Math.abs(got[i] - x) <= bound, `${i}: expected ${x}, got ${got[i]}`));
}

const ENGINES = relaxedDot() ? ["simd128", "relaxed"] : ["simd128"];
if (ENGINES.length < 2) it("relaxed SIMD", (t) => t.skip(`node ${process.version} has none that is right; 22 has`));

for (const engine of ENGINES)
  for (const [backbone, folder] of Object.entries(FOLDERS))
    describe(`${backbone} on ${engine}`, () => {
      const told = JSON.parse(readFileSync(new URL(`${folder}vectors.json`, VECTORS)));
      const at = new URL(`${folder}base/`, VECTORS), manifest = JSON.parse(readFileSync(new URL("manifest.json", at)));
      let base;

      before(async () => { base = await open(at, { engine }); });

      it("the build that was asked for is the one that runs", () => assert.equal(base.engine, engine));

      for (const [name, { payload: hex, folded_sha256: digest }] of Object.entries(told.adaptations)) {
        const payload = Buffer.from(hex, "hex");

        it(`${name}: folds to the byte, and every row scores by its integers`, async () => {
          const machine = new Machine(await tellingModule(engine), await fetchBase(at), 0);
          const folded = foldedOf(machine, manifest.slots, base.shape, payload), ranker = base.fold(payload, { allowUnsigned: true });
          assert.equal(digestOf(folded), digest);
          for (const history of Object.values(told.histories))
            if (history.some((item) => item in folded.rows)) assertRowsMatch(ranker, folded.rows, history, folder.startsWith("tail"));
        });

        it(`${name}: a byte less or more is refused`, () => {
          assert.throws(() => base.fold(payload.subarray(0, -1), { allowUnsigned: true }), OssiaError);
          assert.throws(() => base.fold(Buffer.concat([payload, Buffer.of(0)]), { allowUnsigned: true }), OssiaError);
        });

        it(`${name}: every history comes out as told`, () => {
          const ranker = base.fold(payload, { allowUnsigned: true }), candidates = told.candidates;
          for (const { history: key, numpy_int8: expected } of told.cases.filter((one) => one.adaptation === name)) {
            const history = told.histories[key];
            assertClose(ranker.state(history), expected.state, told.bound);
            assertClose(ranker.scores(history, candidates), expected.scores);
            const ranked = ranker.rank(history, { candidates, k: candidates.length });
            assert.deepEqual([...ranked.positions], expected.ranking, key);
            assert.deepEqual([...ranked.items], expected.ranking.map((position) => candidates[position]));
          }
        });
      }

      it("what goes up is the base's state, clipped and on the grid", () => {
        for (const { history: key, numpy_int8: expected } of told.cases.filter((one) => one.adaptation === "base")) {
          const state = expected.state.map((x) => Math.min(Math.max(x, -manifest.profile_clip), manifest.profile_clip));
          const profile = base.profile(told.histories[key]), dim = state.length, scale = new DataView(profile.buffer).getFloat32(dim, true);
          const largest = Math.max(...state.map(Math.abs)), grid = new Int8Array(profile.buffer, 0, dim);
          assert.equal(profile.length, dim + 4);
          const bound = (told.bound ?? 1e-5) * largest;
          assert.ok(Math.abs(scale - largest / 127) <= bound);
          state.forEach((x, i) => assert.ok(Math.abs(grid[i] * scale - x) <= scale / 2 + bound, `${key}: ${i}`));
        }
      });

      if (told.vectors) it("vectors of candidates come before rows", () => {
        const { adaptation, history, items, candidate_vectors: rows, numpy_int8: expected } = told.vectors;
        const ranker = base.fold(Buffer.from(told.adaptations[adaptation].payload, "hex"), { allowUnsigned: true });
        const vectors = rows.flat().map((x) => (x === null ? Infinity : x));
        assertClose(ranker.scores(told.histories[history], items, vectors), expected.scores);
      });
    });
