/** What went wrong with a base, a payload or the memory, by the engine's own name for it: `code` is that of ossia_error(). */
export class OssiaError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "OssiaError";
    this.code = code;
  }
}
