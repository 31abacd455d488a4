// The page: a history, a ranker, and what is drawn from the two. The history never leaves; while there is a network its profile
// goes up and a payload comes back, and without one the page goes on with what it has.

import { open } from "./ossia/index.js";

const SHOWN = 12, FOUND = 6, REPEATS = 25; // films in the list; in the search; rankings per measurement
const at = (id) => document.getElementById(id);

const [base, items, personas] = await Promise.all([open("base/"), json("base/table/items.json"), json("personas.json")]);
const titles = items.titles.map(readable);
let history = [], ranker = base.fold(), asked = 0, silent = 0;

async function json(url) { return (await fetch(url)).json(); }

/** "Godfather, The (1972)" is how MovieLens sorts; people read it the other way. */
function readable(title) { return title.replace(/^(.*), (The|A|An|La|Le|Les|Il|Das|Der|L')( \(.*)?$/, "$2 $1$3"); }

// ---- what changes ----

function see(row) { change([...history, row]); }
function forget(place) { change(history.filter((_, i) => i !== place)); }

function change(next) {
  history = next;
  draw(); // at once, with the ranker that is here
  if (at("network").checked) askCloud();
  else silent++, tellNetwork();
}

/** Sends the profile and folds what comes back; an answer that a later question has overtaken is dropped. */
async function askCloud() {
  const profile = base.profile(history), question = ++asked;
  at("profile").textContent = profile.length;
  try {
    const answer = await fetch("payload", { method: "POST", body: profile });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const payload = await answer.arrayBuffer();
    if (question === asked && at("network").checked) take(payload);
    at("notice").textContent = "";
  } catch (error) {
    at("notice").textContent = `The cloud does not answer (${error.message}); the list goes on without it.`;
  }
}

function take(payload) {
  ranker = base.fold(payload, { allowUnsigned: true }); // this example's server does not sign
  at("payload").textContent = payload.byteLength;
  draw();
}

function start(persona) {
  if (persona.payload) take(Uint8Array.from(atob(persona.payload), (letter) => letter.charCodeAt(0)).buffer);
  change(persona.history);
}

function tellNetwork() {
  const on = at("network").checked;
  document.body.classList.toggle("offline", !on);
  at("network-word").textContent = on ? "Network on" : "Network off";
  at("notice").textContent = on ? "" : `Nothing is sent. ${silent === 1 ? "1 change" : `${silent} changes`} since, each ranked here.`;
}

// ---- what is drawn ----

function draw() {
  const started = performance.now();
  let ranking;
  for (let i = 0; i < REPEATS; i++) ranking = ranker.rank(history, { k: SHOWN, unseen: true }); // a page's clock is too coarse for one
  at("time").textContent = Math.round((performance.now() - started) * 1000 / REPEATS);
  drawHistory();
  drawRanking([...ranking.items]);
}

function drawHistory() {
  at("history").replaceChildren(...history.map((row, place) => listed(titles[row], () => forget(place), "forget")));
  at("nothing").hidden = history.length > 0;
  at("personas").hidden = history.length > 0;
}

/** Keeps the elements of films that stay, and lets them walk to their new places. */
function drawRanking(rows) {
  const list = at("ranking"), old = new Map([...list.children].map((entry) => [+entry.dataset.row, entry]));
  const before = new Map([...old].map(([row, entry]) => [row, entry.offsetTop]));
  list.replaceChildren(...rows.map((row) => old.get(row) ?? listed(titles[row], () => see(row), "see", row)));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const entry of list.children) {
    const from = before.get(+entry.dataset.row), ease = { duration: 260, easing: "ease-out" };
    if (from === undefined) entry.animate([{ opacity: 0 }, { opacity: 1 }], ease);
    else entry.animate([{ transform: `translateY(${from - entry.offsetTop}px)` }, { transform: "none" }], ease);
  }
}

function listed(title, act, kind, row) {
  const entry = document.createElement("li"), button = document.createElement("button");
  const [, name, year] = title.match(/^(.*?)(?: \((\d{4})\))?$/), when = document.createElement("small");
  if (row !== undefined) entry.dataset.row = row;
  when.textContent = year ?? "";
  button.append(name, when);
  button.title = kind === "see" ? "I have seen it" : "Forget it";
  button.className = kind;
  button.addEventListener("click", act);
  entry.append(button);
  return entry;
}

function search() {
  const wanted = at("search").value.trim().toLowerCase();
  const rows = wanted ? titles.flatMap((title, row) => (title.toLowerCase().includes(wanted) ? [row] : [])).slice(0, FOUND) : [];
  at("found").replaceChildren(...rows.map((row) => listed(titles[row], () => { at("search").value = ""; search(); see(row); }, "see", row)));
}

// ---- at the start ----

at("items").textContent = base.shape.items.toLocaleString("en");
at("personas").append(...personas.map((persona) => {
  const chip = document.createElement("button");
  chip.textContent = persona.name;
  chip.addEventListener("click", () => start(persona));
  return chip;
}));
at("search").addEventListener("input", search);
at("network").addEventListener("change", () => {
  silent = 0;
  tellNetwork();
  if (at("network").checked) askCloud();
});
fetch(`ossia/engine-${base.engine}.wasm`).then((answer) => answer.arrayBuffer())
  .then((bytes) => { at("engine").textContent = `${Math.round(bytes.byteLength / 1000)} KB, ${base.engine}`; });
draw();
document.body.classList.add("ready");
