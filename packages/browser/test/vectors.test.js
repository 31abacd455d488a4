// The package held to tests/vectors, on both builds of the engine: bytes, refusals and rankings exactly, floats within 1e-5.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, describe, it } from "node:test";

import { fetchBase, moduleOf } from "../files.js";
import { fastest, open, OssiaError } from "../index.js";
import { Machine } from "../machine.js";

const VECTORS = new URL("../../../tests/vectors/", import.meta.url);
const FOLDERS = { sasrec: "", caser: "caser/", gru4rec: "gru4rec/" };
const WHOLE = 16, UNSIGNED = 2;

/** Hashes what a payload folds to, as the vectors do: slot by slot values and scales, then the rows' values, then their scales. */
function foldedDigest(machine, slots, shape, payload) {
  const { memory, model } = machine, { exports } = memory, hash = createHash("sha256");
  const weights = memory.place(machine.weightsBytes), values = memory.place(1 << 20), scale = memory.place(1 << 16);
  machine.fold(payload, UNSIGNED | WHOLE, weights);
  slots.forEach(({ channels, inputs }, i) => {
    assert.equal(exports.ossia_slot(model, weights, i, values, scale), 0);
    hash.update(memory.bytes(values, channels * inputs)).update(memory.bytes(scale, 4 * channels));
  });
  for (let row = 0; row < shape.items; row++)
    assert.equal(exports.ossia_row(model, weights, row, values + row * shape.dim, scale + 4 * row), 0);
  return hash.update(memory.bytes(values, shape.items * shape.dim)).update(memory.bytes(scale, 4 * shape.items)).digest("hex");
}

/** Null is −∞, exactly; the others are within a port's bound of the largest. */
function assertClose(got, told) {
  const bound = 1e-5 * Math.max(0, ...told.filter((x) => x !== null).map(Math.abs));
  assert.equal(got.length, told.length);
  told.forEach((x, i) => assert.ok(x === null ? got[i] === -Infinity : Math.abs(got[i] - x) <= bound, `${i}: expected ${x}, got ${got[i]}`));
}

const ENGINES = fastest() === "relaxed" ? ["simd128", "relaxed"] : ["simd128"];
if (ENGINES.length < 2) it("relaxed SIMD", (t) => t.skip(`node ${process.version} has none that is right; 22 has`));

for (const engine of ENGINES)
  for (const [backbone, folder] of Object.entries(FOLDERS))
    describe(`${backbone} on ${engine}`, () => {
      const told = JSON.parse(readFileSync(new URL(`${folder}vectors.json`, VECTORS)));
      const at = new URL(`${folder}base/`, VECTORS), manifest = JSON.parse(readFileSync(new URL("manifest.json", at)));
      let base, unsupported = false;
      const check = (name, law) => it(name, (t) => (unsupported ? t.skip(`the engine does not run ${backbone} yet`) : law()));

      before(async () => {
        try {
          base = await open(at, { engine });
        } catch (error) {
          if (!(error instanceof OssiaError) || error.code !== "unsupported") throw error;
          unsupported = true;
        }
      });

      check("the build that was asked for is the one that runs", () => assert.equal(base.engine, engine));

      for (const [name, { payload: hex, folded_sha256: digest }] of Object.entries(told.adaptations)) {
        const payload = Buffer.from(hex, "hex");

        check(`${name}: folds to the byte`, async () => {
          const machine = new Machine(await moduleOf(engine), await fetchBase(at), 0);
          assert.equal(foldedDigest(machine, manifest.slots, base.shape, payload), digest);
        });

        check(`${name}: a byte less or more is refused`, () => {
          assert.throws(() => base.fold(payload.subarray(0, -1), { allowUnsigned: true }), OssiaError);
          assert.throws(() => base.fold(Buffer.concat([payload, Buffer.of(0)]), { allowUnsigned: true }), OssiaError);
        });

        check(`${name}: every history comes out as told`, () => {
          const ranker = base.fold(payload, { allowUnsigned: true }), candidates = told.candidates;
          for (const { history: key, numpy_int8: expected } of told.cases.filter((one) => one.adaptation === name)) {
            const history = told.histories[key];
            assertClose(ranker.state(history), expected.state);
            assertClose(ranker.scores(history, candidates), expected.scores);
            const ranked = ranker.rank(history, { candidates, k: candidates.length });
            assert.deepEqual([...ranked.positions], expected.ranking, key);
            assert.deepEqual([...ranked.items], expected.ranking.map((position) => candidates[position]));
          }
        });
      }

      check("what goes up is the base's state, clipped and on the grid", () => {
        for (const { history: key, numpy_int8: expected } of told.cases.filter((one) => one.adaptation === "base")) {
          const state = expected.state.map((x) => Math.min(Math.max(x, -manifest.profile_clip), manifest.profile_clip));
          const profile = base.profile(told.histories[key]), dim = state.length, scale = new DataView(profile.buffer).getFloat32(dim, true);
          const largest = Math.max(...state.map(Math.abs)), grid = new Int8Array(profile.buffer, 0, dim);
          assert.equal(profile.length, dim + 4);
          assert.ok(Math.abs(scale - largest / 127) <= 1e-5 * scale);
          state.forEach((x, i) => assert.ok(Math.abs(grid[i] * scale - x) <= scale / 2 + 1e-5 * largest, `${key}: ${i}`));
        }
      });

      check("vectors of candidates come before rows", () => {
        const { adaptation, history, items, candidate_vectors: rows, numpy_int8: expected } = told.vectors;
        const ranker = base.fold(Buffer.from(told.adaptations[adaptation].payload, "hex"), { allowUnsigned: true });
        const vectors = rows.flat().map((x) => (x === null ? Infinity : x));
        assertClose(ranker.scores(told.histories[history], items, vectors), expected.scores);
      });
    });
