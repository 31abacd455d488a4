// A base opened in an instance of the engine: addresses of what the engine asks for with every call, and its functions with
// lists of JavaScript going in and out.

import { OssiaError } from "./error.js";
import { NAMES, TAIL } from "./files.js";
import { ALIGN, Memory, Room } from "./memory.js";
import { bytesOf } from "./values.js";

const OK = 0, MEMORY = 2, FIRST_OF_PAYLOAD = 10; // errors of ossia.h

export class Machine {
  #inward; #outward; #size; #scratch;

  constructor(module, files, flags) {
    this.memory = new Memory(module);
    this.#inward = new Room(this.memory), this.#outward = new Room(this.memory);
    this.#size = this.memory.place(4); // where the engine reads and writes how many bytes there are
    const list = this.#keepFiles(files);
    this.model = this.#make("ossia_open", ...list, flags);
    this.#scratch = this.#make("ossia_prepare", this.model);
    this.weightsBytes = this.#ask("ossia_fold", this.model, 0, 0, 0);
  }

  /** Reads the sizes of the model, `count` of them. */
  shape(count) {
    const at = this.#outward.of(4 * count);
    this.#check(this.memory.exports.ossia_shape_of(this.model, at));
    return [...this.memory.words(at, count)];
  }

  /** Folds a payload into weights at an address; null is the base itself. */
  fold(payload, flags, weights) {
    const [at] = this.#put(payload ?? new Uint8Array()), { exports } = this.memory;
    this.memory.words(this.#size, 1)[0] = this.weightsBytes;
    this.#check(exports.ossia_fold(this.model, payload ? at : 0, payload?.length ?? 0, flags, weights, this.#size));
  }

  /** Calls a function that writes `bytes` about a history, and gives their address. */
  tell(name, weights, history, bytes) {
    const [events] = this.#put(history), to = this.#outward.of(bytes);
    this.#check(this.memory.exports[name](this.model, weights, this.#scratch, events, history.length, to));
    return to;
  }

  /** Scores candidates, by their own vectors if they come with some. */
  scores(weights, history, candidates, vectors) {
    const [events, offered, rows] = this.#put(history, candidates, vectors ?? new Float32Array());
    const to = this.#outward.of(4 * candidates.length), list = [events, history.length, offered, candidates.length];
    this.#check(this.memory.exports.ossia_score(this.model, weights, this.#scratch, ...list, vectors ? rows : 0, to));
    return this.memory.floats(to, candidates.length).slice();
  }

  /** Ranks candidates, or all rows if there is no list. */
  top(weights, history, candidates, flags, k) {
    const [events, offered] = this.#put(history, candidates ?? new Int32Array()), positions = this.#outward.of(8 * k);
    const scores = positions + 4 * k, list = [events, history.length, candidates ? offered : 0, candidates?.length ?? 0];
    const { exports } = this.memory;
    this.#check(exports.ossia_top(this.model, weights, this.#scratch, ...list, flags, k, positions, scores, this.#size));
    const shown = this.memory.words(this.#size, 1)[0];
    return { positions: this.memory.words(positions, shown).slice(), scores: this.memory.floats(scores, shown).slice() };
  }

  /** Names the arithmetic that runs. */
  path() { return this.memory.text(this.memory.exports.ossia_path(0)); }

  /** Throws what a function answered, unless all is well. */
  #check(error) {
    if (error === OK) return;
    const name = this.memory.text(this.memory.exports.ossia_error(error));
    throw new OssiaError(name, error < FIRST_OF_PAYLOAD ? `engine: ${name}` : `payload: refused by its ${name}`);
  }

  /** Copies typed arrays in, and gives the address of each. They stay until the next call. */
  #put(...lists) {
    const takes = lists.map((list) => Math.ceil(list.byteLength / ALIGN) * ALIGN);
    let next = this.#inward.of(takes.reduce((sum, bytes) => sum + bytes, 0));
    return lists.map((list, i) => {
      const at = next;
      this.memory.bytes(at, list.byteLength).set(new Uint8Array(list.buffer, list.byteOffset, list.byteLength));
      next += takes[i];
      return at;
    });
  }

  /** Says how much memory a result takes: without memory that is all a function does. */
  #ask(name, ...given) {
    this.memory.words(this.#size, 1)[0] = 0;
    const error = this.memory.exports[name](...given, 0, this.#size);
    if (error !== MEMORY) this.#check(error);
    return this.memory.words(this.#size, 1)[0];
  }

  /** Makes a result in memory of its own. */
  #make(name, ...given) {
    const at = this.memory.place(this.#ask(name, ...given));
    this.#check(this.memory.exports[name](...given, at, this.#size));
    return at;
  }

  /** Copies the files in and lists them as `ossia_file`s: name, data, size. */
  #keepFiles(files) {
    const given = [...NAMES, TAIL].filter((name) => files[name] !== undefined);
    const list = this.memory.place(12 * given.length);
    given.forEach((name, i) => {
      const bytes = bytesOf(files[name], name);
      const entry = [this.memory.keep(new TextEncoder().encode(`${name}\0`)), this.memory.keep(bytes), bytes.length];
      this.memory.words(list + 12 * i, 3).set(entry);
    });
    return [list, given.length];
  }
}
