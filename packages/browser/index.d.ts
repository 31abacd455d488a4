/** Sizes of a base: rows of its table, values of a user state, events that it reads, and what a payload has bits and codes for. */
export interface Shape {
  readonly items: number;
  readonly dim: number;
  readonly length: number;
  readonly blocks: number;
  readonly heads: number;
  readonly hidden: number;
  readonly gates: number;
  readonly channels: number;
}

/** Rows of the item table, a history's oldest first. A number that the table does not have is an unknown item. */
export type Rows = Int32Array | readonly number[];
export type Bytes = ArrayBuffer | ArrayBufferView;
/** A build of the engine. */
export type Engine = "relaxed" | "simd128";

export interface Ranking {
  /** Rows, best first; ties in the order given. */
  readonly items: Int32Array;
  /** Their places in the list of candidates; of all rows, the rows themselves. */
  readonly positions: Int32Array;
  /** Higher is better; −Infinity for a row that this user's payload left out. */
  readonly scores: Float32Array;
}

/**
 * Opens a base and its table. Files are held to the digests in the manifests.
 *
 * @param source the URL of a published base's folder, or its files: names as in docs/base-format.md to bytes.
 * @param options.engine a build of the engine instead of the fastest.
 * @param options.trusted do not compute the files' digests again; sizes and contents are checked all the same.
 * @throws OssiaError a file is missing, damaged or of a kind that this engine does not run.
 */
export function open(
  source: string | URL | Readonly<Record<string, Bytes>>,
  options?: { engine?: Engine; trusted?: boolean },
): Promise<Base>;

/** The build that `open` takes if it is not told: "relaxed" where the processor has its dot product, else "simd128". */
export function fastest(): Engine;

export interface Base {
  readonly shape: Shape;
  /** The build of the engine that runs. */
  readonly engine: Engine;

  /**
   * Folds a payload: one user's ranker, independent of all others. Without a payload, the base as it was published.
   *
   * @param options.allowUnsigned take a payload that carries no signature.
   * @param options.verified the signature of this payload was checked before this call; the engine does not check it.
   * @throws OssiaError `code` names the field that was refused, such as "base", "codes" or "signature".
   */
  fold(payload?: Bytes | null, options?: { allowUnsigned?: boolean; verified?: boolean }): Ranker;

  /** Makes the profile of a history, `dim` + 4 bytes: the only thing that needs to leave the device. */
  profile(history: Rows): Uint8Array;
}

export interface Ranker {
  /**
   * Ranks candidates, or without candidates every row that can be scored.
   *
   * @param options.k how many to show, 10 if not told.
   * @param options.unseen rank the items of the history last.
   */
  rank(history: Rows, options?: { candidates?: Rows | null; k?: number; unseen?: boolean }): Ranking;

  /** Scores candidates: the table's rows, or `vectors`, `dim` numbers for each of them. */
  scores(history: Rows, candidates: Rows, vectors?: Float32Array | readonly number[] | null): Float32Array;

  /** Encodes a history into a user state; zeros if nothing in it is known. */
  state(history: Rows): Float32Array;
}

/** What the engine refused, or what could not be fetched. */
export class OssiaError extends Error {
  /** The engine's own name of the error: "missing file", "digest", "manifest", "unsupported", "header", "base", "codes", … */
  readonly code: string;
}
