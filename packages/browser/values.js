// What callers may hand in, as the typed arrays that the engine wants.

/** Sees bytes as bytes. */
export function bytesOf(value, name) {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  throw new TypeError(`${name}: expected an ArrayBuffer or a view of one, got ${value}`);
}

/** Sees whole numbers as rows. A wrong number would become row 0, so it is refused. */
export function rowsOf(list, name) {
  if (list instanceof Int32Array) return list;
  const rows = Int32Array.from(list);
  for (let i = 0; i < rows.length; i++)
    if (rows[i] !== list[i]) throw new TypeError(`${name}[${i}]: expected a row number, got ${list[i]}`);
  return rows;
}

/** Sees numbers as floats, `dim` for each of `count`. */
export function vectorsOf(list, count, dim) {
  const vectors = list instanceof Float32Array ? list : Float32Array.from(list);
  if (vectors.length !== count * dim) throw new TypeError(`vectors: expected ${count} × ${dim} numbers, got ${vectors.length}`);
  return vectors;
}

/** Sees a number of items to show. */
export function countOf(value) {
  if (Number.isInteger(value) && value >= 0) return value;
  throw new TypeError(`k: expected a whole number, got ${value}`);
}
