// The README's example as it stands there, against a server that lends it the vectors' base and a payload.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { it } from "node:test";

const HERE = new URL("../", import.meta.url);
const VECTORS = new URL("../../tests/vectors/", HERE);

it("the README's example runs as it is printed", async () => {
  const told = JSON.parse(await readFile(new URL("vectors.json", VECTORS)));
  const readme = await readFile(new URL("README.md", HERE), "utf8"), sent = [], shown = [];
  const server = createServer(async (request, answer) => {
    for await (const chunk of request) sent.push(chunk);
    const payload = Buffer.from(told.adaptations.codes.payload, "hex");
    answer.end(request.url === "/payload" ? payload : await readFile(new URL(`.${request.url}`, VECTORS)));
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const example = readme.match(/```js\n([^]*?)```/)[1].replace('"ossia-browser"', JSON.stringify(new URL("index.js", HERE)))
    .replace('open("/', `open("${origin}/`).replaceAll('fetch("/', `fetch("${origin}/`).replace("console.log(", "shown(")
    .replace(/import \{ (\w+) \} from (.*);/, "const { $1 } = await import($2);");
  try {
    const run = Object.getPrototypeOf(async () => {}).constructor("shown", example);
    await run((...values) => shown.push(values));
  } finally {
    server.close();
    server.closeAllConnections();
  }
  const [[items, scores]] = shown;
  assert.equal(Buffer.concat(sent).length, 8 + 4); // the profile of a base that is 8 wide, and nothing else
  assert.equal(items.length, scores.length);
  assert.ok(items.every((item) => item !== undefined) && items.length > 5);
  assert.ok(scores.every((score, i) => i === 0 || score <= scores[i - 1]));
});
