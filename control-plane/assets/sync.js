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
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
};
const steps = ["prepare", "extract", "stage", "commit", "done"];
let lastRows = -1, lastChange = Date.now();

function row(table) {
  const tr = document.createElement("tr");
  const cells = [table.table, number.format(table.rows.upserts), number.format(table.rows.updates), number.format(table.rows.deletes), size(table.bytes)];
  cells.forEach((text, index) => {
    const td = document.createElement("td");
    if (index > 0) td.className = "number";
    td.textContent = text;
    tr.append(td);
  });
  return tr;
}

function show(sync) {
  const now = Date.parse(sync.now);
  const rows = sync.rows.upserts + sync.rows.updates + sync.rows.deletes;
  put("status", sync.status);
  byId("status").className = `pill ${sync.status}`;
  put("rows", number.format(rows));
  if (sync.rows_per_s !== null) put("rate", number.format(sync.rows_per_s));
  put("bytes", size(sync.bytes));
  put("checkpoints", sync.checkpoints);
  put("checkpoint-age", sync.last_checkpoint_at ? `${span((now - Date.parse(sync.last_checkpoint_at)) / 1000)} ago` : "–");
  put("took", sync.started_at ? span(((sync.finished_at ? Date.parse(sync.finished_at) : now) - Date.parse(sync.started_at)) / 1000) : "–");
  put("generation", sync.generation);
  put("delivery", sync.delivery || "–");
  for (const kind of ["upserts", "updates", "deletes", "truncates"]) put(kind, number.format(sync.rows[kind]));
  const current = steps.indexOf(sync.stage);
  document.querySelectorAll("#steps li").forEach((step, index) => {
    step.className = index < current || (index === current && sync.stage === "done") ? "past" : index === current ? "now" : "ahead";
  });
  if (Array.isArray(sync.tables) && sync.tables.length > 0) byId("tables").replaceChildren(...sync.tables.map(row));
  if (rows !== lastRows) { lastRows = rows; lastChange = Date.now(); }
  const still = (Date.now() - lastChange) / 1000;
  byId("stall").hidden = still < 60 || sync.finished_at !== null;
  put("stall", `No row for ${span(still)}.`);
}

const source = new EventSource(`/v1/syncs/${byId("steps").dataset.sync}/events`);
source.addEventListener("sync", (event) => show(JSON.parse(event.data)));
source.addEventListener("end", (event) => {
  source.close();
  show(JSON.parse(event.data));
  location.reload();
});
