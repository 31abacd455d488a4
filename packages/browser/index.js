// ossia in a browser: opens a published base, folds one user's payload into it, and ranks. The C engine does the work, as
// WebAssembly; what is here moves bytes in and out of its memory and gives its errors their names. index.d.ts says the rest.
//
//     const base = await open("/base/");                   once
//     const profile = base.profile(history);               the only thing that leaves the device
//     const ranker = base.fold(payload);                   once per payload
//     const { items } = ranker.rank(history, { k: 10 });   as often as something is clicked
//
// Items are rows of the item table: `table/items.json` of the base says which row is which item.

import { OssiaError } from "./error.js";
import { fastest, fetchBase, moduleOf } from "./files.js";
import { Machine } from "./machine.js";
import { bytesOf, countOf, rowsOf, vectorsOf } from "./values.js";

export { fastest, OssiaError };

const TRUSTED = 1, UNSIGNED = 2, VERIFIED = 4, UNSEEN = 8; // flags of ossia.h
const SHAPE = ["items", "dim", "length", "blocks", "heads", "hidden", "gates", "channels"];

/** Opens a base from the folder that it was published to, or from its files by name. */
export async function open(source, { engine = fastest(), trusted = false } = {}) {
  const remote = typeof source === "string" || source instanceof URL;
  const [module, files] = await Promise.all([moduleOf(engine), remote ? fetchBase(source) : source]);
  return new Base(new Machine(module, files, trusted ? TRUSTED : 0));
}

/** A published base, opened. */
class Base {
  #machine; #own;
  #free = []; // weights whose rankers are gone
  #gone = new FinalizationRegistry((weights) => this.#free.push(weights));

  constructor(machine) {
    const sizes = machine.shape(SHAPE.length);
    this.#machine = machine;
    this.shape = Object.freeze(Object.fromEntries(SHAPE.map((name, i) => [name, sizes[i]])));
    this.engine = machine.path();
  }

  fold(payload = null, { allowUnsigned = false, verified = false } = {}) {
    const flags = (allowUnsigned ? UNSIGNED : 0) | (verified ? VERIFIED : 0);
    const weights = this.#foldInto(payload && bytesOf(payload, "payload"), flags);
    const ranker = new Ranker(this.#machine, weights, this.shape);
    this.#gone.register(ranker, weights);
    return ranker;
  }

  profile(history) {
    const bytes = this.shape.dim + 4;
    this.#own ??= this.#foldInto(null, 0);
    const at = this.#machine.tell("ossia_profile", this.#own, rowsOf(history, "history"), bytes);
    return this.#machine.memory.bytes(at, bytes).slice();
  }

  /** Takes a block of a ranker that is gone, or a new one; a payload that is refused leaves it for the next. */
  #foldInto(payload, flags) {
    const weights = this.#free.pop() ?? this.#machine.memory.place(this.#machine.weightsBytes);
    try {
      this.#machine.fold(payload, flags, weights);
    } catch (error) {
      this.#free.push(weights);
      throw error;
    }
    return weights;
  }
}

/** One user's weights, ready to rank. */
class Ranker {
  #machine; #weights; #shape;

  constructor(machine, weights, shape) {
    this.#machine = machine, this.#weights = weights, this.#shape = shape;
  }

  rank(history, { candidates = null, k = 10, unseen = false } = {}) {
    const offered = candidates && rowsOf(candidates, "candidates");
    const most = Math.min(countOf(k), offered?.length ?? this.#shape.items);
    const top = this.#machine.top(this.#weights, rowsOf(history, "history"), offered, unseen ? UNSEEN : 0, most);
    return { items: offered ? top.positions.map((position) => offered[position]) : top.positions, ...top };
  }

  scores(history, candidates, vectors = null) {
    const offered = rowsOf(candidates, "candidates"), given = vectors && vectorsOf(vectors, offered.length, this.#shape.dim);
    return this.#machine.scores(this.#weights, rowsOf(history, "history"), offered, given);
  }

  state(history) {
    const at = this.#machine.tell("ossia_encode", this.#weights, rowsOf(history, "history"), 4 * this.#shape.dim);
    return this.#machine.memory.floats(at, this.#shape.dim).slice();
  }
}
