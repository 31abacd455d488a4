// One instance of the engine and its memory. Blocks are handed out one after another and stay; the engine itself allocates
// nothing. A place is remembered by address, never by view: growing a memory takes all views of it away.

export const ALIGN = 64; // OSSIA_ALIGN of ossia.h
const PAGE = 65536;

/** The exports of an instantiated module, and what lies where in its memory. */
export class Memory {
  #end;

  constructor(module) {
    this.exports = new WebAssembly.Instance(module).exports;
    this.#end = this.exports.memory.buffer.byteLength; // the module's own stack and constants come before
  }

  /** Gives the address of a new block. */
  place(bytes) {
    const at = this.#end;
    this.#end += Math.ceil(bytes / ALIGN) * ALIGN;
    const missing = this.#end - this.exports.memory.buffer.byteLength;
    if (missing > 0) this.exports.memory.grow(Math.ceil(missing / PAGE)); // a RangeError where there is no more
    return at;
  }

  bytes(at, count) { return new Uint8Array(this.exports.memory.buffer, at, count); }
  words(at, count) { return new Int32Array(this.exports.memory.buffer, at, count); }
  floats(at, count) { return new Float32Array(this.exports.memory.buffer, at, count); }

  /** Copies bytes in and gives their address. */
  keep(bytes) {
    const at = this.place(bytes.length);
    this.bytes(at, bytes.length).set(bytes);
    return at;
  }

  /** Reads a text of C. */
  text(at) {
    const all = this.bytes(at);
    return String.fromCharCode(...all.subarray(0, all.indexOf(0)));
  }
}

/** A block that is replaced by one twice as large when it has become too small: for what calls take in and give out. */
export class Room {
  #memory; #at = 0; #bytes = 0;

  constructor(memory) { this.#memory = memory; }

  /** Gives the address of at least so many bytes; what was in them may be gone. */
  of(bytes) {
    if (bytes > this.#bytes || !this.#at) { // even of nothing the address is one: 0 would say that there is no list
      this.#bytes = Math.max(bytes, 2 * this.#bytes, 4096);
      this.#at = this.#memory.place(this.#bytes);
    }
    return this.#at;
  }
}
