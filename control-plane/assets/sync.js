// The live page of one sync: one event a second. Everything is written with textContent, so no text can become markup.
"use strict";
const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const put = (id, text) => { byId(id).textContent = text; };
const size = (bytes) => {
  let value = bytes, unit = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
};
const span = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
};
const ago = (seconds) => (seconds < 2 ? "just now" : `${span(seconds)} ago`);
const total = (rows) => rows.upserts + rows.updates + rows.deletes;
const WINDOW_MS = 10000;
let samples = [], lastRows = -1, lastChange = Date.now();

// Rows per second of a table over the last ten seconds.
function rate(name, rows, now) {
  const first = samples[0];
  const before = first.rows.get(name) || 0;
  const seconds = (now - first.at) / 1000;
  return seconds < 1 ? "–" : number.format(Math.max(0, Math.round((rows - before) / seconds)));
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  svg.setAttribute("class", "bar");
  svg.setAttribute("aria-hidden", "true");
  rect.setAttribute("width", `${share}%`);
  rect.setAttribute("height", "100%");
  svg.append(rect);
  return svg;
}

function cell(kind, text, label) {
  const td = document.createElement("td");
  td.className = kind;
  td.dataset.label = label;
  td.textContent = text;
  return td;
}

function row(table, largest, now) {
  const tr = document.createElement("tr"), th = document.createElement("th"), name = document.createElement("span");
  th.scope = "row";
  name.className = "name";
  name.textContent = table.table;
  th.append(name);
  const rows = total(table.rows), wide = document.createElement("td");
  wide.className = "wide";
  wide.append(bar(Math.floor(rows * 100 / largest)));
  tr.append(th, cell("number strong", number.format(rows), "Rows"), wide, cell("number", rate(table.table, rows, now), "Rows/s"));
  for (const kind of ["upserts", "updates", "deletes"]) {
    tr.append(cell("number", number.format(table.rows[kind]), kind[0].toUpperCase() + kind.slice(1)));
  }
  return tr;
}

function showTables(tables, now) {
  if (!Array.isArray(tables) || tables.length === 0) return;
  samples.push({ at: now, rows: new Map(tables.map((table) => [table.table, total(table.rows)])) });
  while (samples.length > 2 && now - samples[0].at > WINDOW_MS) samples.shift();
  const sorted = [...tables].sort((one, other) => total(other.rows) - total(one.rows) || (one.table < other.table ? -1 : 1));
  const largest = Math.max(1, total(sorted[0].rows));
  put("table-rate-note", "last 10 s");
  byId("tables").replaceChildren(...sorted.map((table) => row(table, largest, now)));
}

function showSteps(stage) {
  const steps = [...document.querySelectorAll("#steps li")];
  const current = steps.findIndex((step) => step.dataset.step === stage);
  steps.forEach((step, index) => {
    step.className = index < current || (index === current && stage === "done") ? "past" : index === current ? "now" : "ahead";
    if (index === current) step.setAttribute("aria-current", "step"); else step.removeAttribute("aria-current");
  });
}

function show(sync) {
  const now = Date.parse(sync.now), rows = total(sync.rows);
  const status = byId("status");
  if (status.textContent !== sync.status) {
    status.textContent = sync.status;
    status.className = `pill ${sync.status}`;
    document.title = document.title.replace(/ · [^·]+ · Inshore$/, ` · ${sync.status} · Inshore`);
  }
  if (sync.status !== "queued") byId("note").hidden = true;
  put("rows", number.format(rows));
  if (sync.rows_per_s !== null) put("rate", number.format(sync.rows_per_s));
  put("bytes", size(sync.bytes));
  put("checkpoints", number.format(sync.checkpoints));
  put("checkpoint-age", sync.last_checkpoint_at ? `, last ${ago((now - Date.parse(sync.last_checkpoint_at)) / 1000)}` : "");
  put("took", sync.started_at ? span(((sync.finished_at ? Date.parse(sync.finished_at) : now) - Date.parse(sync.started_at)) / 1000) : "–");
  put("generation", sync.generation);
  put("delivery", (sync.delivery || "–").replaceAll("_", " "));
  for (const kind of ["upserts", "updates", "deletes", "truncates"]) put(kind, number.format(sync.rows[kind]));
  showSteps(sync.stage);
  showTables(sync.tables, now);
  if (rows !== lastRows) { lastRows = rows; lastChange = Date.now(); }
  const still = (Date.now() - lastChange) / 1000;
  const stalled = still >= 60 && sync.status === "running";
  byId("stall").hidden = !stalled;
  if (stalled) put("stall", `No new row for ${span(still)}. The connector may be waiting for its source: look at its log on the agent's host.`);
}

const source = new EventSource(`/v1/syncs/${byId("steps").dataset.sync}/events`);
source.addEventListener("open", () => link("on", "live"));
source.addEventListener("error", () => link("off", "no answer, trying again"));
source.addEventListener("sync", (event) => show(JSON.parse(event.data)));
source.addEventListener("end", (event) => {
  source.close();
  show(JSON.parse(event.data));
  link("", "");
  // The server's words about how it ended.
  swap().catch(() => location.reload());
});
