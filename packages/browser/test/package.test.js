// What the package promises beyond the vectors: errors with names, rankers that don't meet, memory that comes back.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { it } from "node:test";
import v8 from "node:v8";
import vm from "node:vm";

import { NAMES } from "../files.js";
import { open, OssiaError } from "../index.js";

const VECTORS = new URL("../../../tests/vectors/", import.meta.url);
const told = JSON.parse(readFileSync(new URL("vectors.json", VECTORS)));
const filesOf = () => Object.fromEntries(NAMES.map((name) => [name, readFileSync(new URL(`base/${name}`, VECTORS))]));
const payloadOf = (name) => Buffer.from(told.adaptations[name].payload, "hex");
const unsigned = { allowUnsigned: true }, history = told.histories.full;
const coded = (code) => (error) => error instanceof OssiaError && error.code === code;

it("files open as a folder does", async () => {
  const [one, two] = await Promise.all([open(filesOf()), open(new URL("base/", VECTORS))]);
  assert.deepEqual(one.shape, two.shape);
  assert.deepEqual(one.fold().rank(history), two.fold().rank(history));
});

it("a base with a file missing, damaged or cut is refused by name", async () => {
  const { "base/plane4.safetensors": plane, ...rest } = filesOf();
  await assert.rejects(open(rest), coded("missing file"));
  const damaged = Uint8Array.from(plane);
  damaged[damaged.length - 1] ^= 1;
  await assert.rejects(open({ ...rest, "base/plane4.safetensors": damaged }), coded("digest"));
  await assert.rejects(open({ ...rest, "base/plane4.safetensors": plane.subarray(1) }), coded("digest"));
  await assert.rejects(open({}), coded("missing file"));
  await assert.rejects(open(new URL("nowhere/", VECTORS)), coded("missing file"));
});

it("a payload is refused by the field that is wrong, and one without signature unless the caller allows it", async () => {
  const base = await open(filesOf()), good = payloadOf("codes"), wrong = (at) => Buffer.from(good).fill(255, at, at + 1);
  assert.throws(() => base.fold(good), coded("signature"));
  assert.throws(() => base.fold(good, { verified: true }), coded("signature")); // there is none that could have been verified
  assert.throws(() => base.fold(wrong(0), unsigned), coded("header"));
  assert.throws(() => base.fold(wrong(12), unsigned), coded("base"));
  assert.throws(() => base.fold(wrong(28), unsigned), coded("table"));
  assert.throws(() => base.fold("4f535341", unsigned), TypeError);
});

it("rankers of one base don't disturb each other, nor does a refused payload", async () => {
  const base = await open(filesOf()), names = Object.keys(told.adaptations);
  const alone = await Promise.all(names.map(async (name) => (await open(filesOf())).fold(payloadOf(name), unsigned).state(history)));
  const rankers = names.map((name) => base.fold(payloadOf(name), unsigned));
  assert.throws(() => base.fold(payloadOf("codes").subarray(1), unsigned), OssiaError);
  rankers.forEach((ranker, i) => assert.deepEqual(ranker.state(history), alone[i], names[i]));
});

it("a profile is the base's own, whatever was folded before", async () => {
  const base = await open(filesOf()), before = base.profile(history);
  base.fold(payloadOf("all terms"), unsigned).rank(history);
  assert.deepEqual(base.profile(history), before);
});

it("an empty list of candidates ranks nothing, no list ranks the table, unseen leaves the history out", async () => {
  const ranker = (await open(filesOf())).fold();
  assert.equal(ranker.rank(history, { candidates: [] }).items.length, 0);
  assert.equal(ranker.rank(history, { k: 0 }).items.length, 0);
  assert.equal(ranker.rank(history, { k: 1e9 }).items.length, 13);
  const unseen = ranker.rank(history, { k: 100, unseen: true }).items;
  assert.equal(unseen.length, 13 - new Set(history).size);
  assert.ok(history.every((item) => !unseen.includes(item)));
});

it("long lists grow the memory, and what was given out before stays as it was", async () => {
  const ranker = (await open(filesOf())).fold(), first = ranker.rank(history), copy = first.items.slice();
  const many = Int32Array.from({ length: 300_000 }, (_, i) => i % 13), all = ranker.rank(history, { candidates: many, k: many.length });
  assert.equal(all.items.length, many.length);
  assert.deepEqual(first.items, copy);
  assert.deepEqual(ranker.rank(history), first);
});

it("what is no row is refused instead of becoming row 0", async () => {
  const base = await open(filesOf()), ranker = base.fold();
  for (const wrong of [[1, undefined], [NaN], ["item"], [1.5], [2 ** 40], [null]]) {
    assert.throws(() => ranker.rank(wrong), TypeError);
    assert.throws(() => base.profile(wrong), TypeError);
    assert.throws(() => ranker.scores(history, wrong), TypeError);
  }
  assert.throws(() => ranker.rank(history, { k: 1.5 }), TypeError);
  assert.throws(() => ranker.scores(history, [1], [0, 0]), TypeError);
});

it("weights of rankers that are gone serve the next ones", async (t) => {
  v8.setFlagsFromString("--expose-gc");
  const collect = vm.runInNewContext("gc"), base = await open(filesOf()), payload = payloadOf("codes");
  const foldSome = () => { for (let i = 0; i < 50; i++) base.fold(payload, unsigned); };
  foldSome();
  const grown = t.mock.method(WebAssembly.Memory.prototype, "grow");
  for (let round = 0; round < 20; round++) {
    collect();
    await new Promise((soon) => setTimeout(soon, 5)); // registries speak between tasks
    foldSome();
  }
  const calls = grown.mock.callCount(); // of 1,000 rankers
  assert.ok(calls <= 2, `grew ${calls} times`);
});
