// Where bytes come from: a base's folder, and the engine's two modules beside this file.

import { OssiaError } from "./error.js";

/** What the engine reads of a base, by the names of docs/base-format.md. */
export const NAMES = [
  "manifest.json", "base/floats.safetensors", "base/plane2.safetensors", "base/plane4.safetensors", "base/plane8.safetensors",
  "table/manifest.json", "table/scales.safetensors", "table/plane2.safetensors", "table/plane4.safetensors", "table/plane8.safetensors",
];
/** What only some tables have: a coarse version of rows that are not held. */
export const TAIL = "table/tail.safetensors";

const MODULES = { // written out, so that a bundler sees them
  relaxed: new URL("./engine-relaxed.wasm", import.meta.url),
  simd128: new URL("./engine-simd128.wasm", import.meta.url),
};
const compiled = new Map(); // a page compiles a module once

// A module whose f(a, b) answers 7 + 4 · a · b by i32x4.relaxed_dot_i8x16_i7x16_add_s.
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0,
  10, 22, 1, 20, 0, 32, 0, 253, 15, 32, 1, 253, 15, 65, 7, 253, 17, 253, 147, 2, 253, 27, 0, 11,
]);
const SATURATED = 7 + 2 * 32767; // 127 · 255 twice does not fit 16 bits

/**
 * Names the build of the engine that runs fastest here: "relaxed" where relaxed SIMD is there, right, and one instruction.
 *
 * What the instruction does with a second operand of 8 bits is left to the processor, and so tells it: one dot product takes 255 as
 * 255 or as −1; x86 without VNNI makes it of three instructions, the first of which saturates, and is slower than simd128.
 */
export function fastest() {
  const dot = relaxedDot();
  return dot && dot(127, 255) !== SATURATED ? "relaxed" : "simd128";
}

/** Gives 7 + 4 · a · b by relaxed SIMD, or null where it is not there or wrong, as in early builds of V8. */
export function relaxedDot() {
  const dot = WebAssembly.validate(RELAXED) && new WebAssembly.Instance(new WebAssembly.Module(RELAXED)).exports.f;
  return dot && dot(3, 5) === 67 ? dot : null;
}

/** Gives a build of the engine, compiled. */
export function moduleOf(engine) {
  if (!(engine in MODULES)) throw new TypeError(`engine: expected "relaxed" or "simd128", got ${engine}`);
  if (!compiled.has(engine)) {
    const module = fetchBytes(MODULES[engine]).then((bytes) => WebAssembly.compile(bytes));
    module.catch(() => compiled.delete(engine)); // the next call asks again
    compiled.set(engine, module);
  }
  return compiled.get(engine);
}

/** Fetches a base's files from the folder that it was published to. */
export async function fetchBase(folder) {
  const url = new URL(folder, globalThis.document?.baseURI);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  const fetched = await Promise.all(NAMES.map((name) => fetchBytes(new URL(name, url))));
  const files = Object.fromEntries(NAMES.map((name, i) => [name, fetched[i]]));
  if (hasTail(files["table/manifest.json"])) files[TAIL] = await fetchBytes(new URL(TAIL, url));
  return files;
}

function hasTail(manifest) {
  try {
    return "tail" in JSON.parse(new TextDecoder().decode(manifest));
  } catch {
    return false; // the engine says what is wrong with it
  }
}

async function fetchBytes(url) {
  if (url.protocol === "file:") { // Node, whose fetch knows no files
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
    return readFile(url).catch((error) => { throw new OssiaError("missing file", `${url}: ${error.code}`); });
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new OssiaError("missing file", `${url}: HTTP ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}
