// Headless Chromium, and a server for folders: what the tests and the benchmark of this folder stand on. `make browser-test`
// installs playwright-core beside the build; the browser is the system's own, CHROMIUM or /usr/bin/chromium.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname } from "node:path";

export const ROOT = new URL("../../", import.meta.url);
export const BUILD = new URL("build/browser/", ROOT);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css", ".json": "application/json" };
const QUIET = [ // Chromium alone asks Google's hosts at every start
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** Starts the browser; the caller closes it. */
export function launch(...more) {
  const { chromium } = createRequire(BUILD)("playwright-core");
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...QUIET, ...more] });
}

/** Lends folders: URLs by the path they appear under. Isolated pages have a clock of 5 µs instead of 100. */
export async function lend(folders) {
  const server = createServer(async (request, answer) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const under = Object.keys(folders).find((prefix) => path.startsWith(prefix));
    const bytes = under && (await readFile(new URL(`.${path.slice(under.length - 1)}`, folders[under])).catch(() => null));
    answer.writeHead(bytes ? 200 : 404, {
      "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
      "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
    }).end(bytes || "");
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const close = () => { server.close(); server.closeAllConnections(); };
  return { origin: `http://127.0.0.1:${server.address().port}`, close };
}
