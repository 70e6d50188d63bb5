"use strict";
const form = document.getElementById("filters");
const table = document.getElementById("rows");
const heads = [...table.querySelectorAll("th")];
const rows = [...table.tBodies[0].rows];
const first = [...rows];
const counts = ["placed", "measured"];

for (const row of rows) {
  const text = ["arm", "workload", "run"].map((name) => cell(row, name).textContent).join(", ");
  for (const dot of drawings(row)) {
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = text + ", " + cell(row, "speedup [95%]").textContent;
    dot.prepend(title);
  }
}
heads.forEach((head) => head.querySelector("button").addEventListener("click", () => sort(head)));
form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  if (event.target.name === "sort") sortBy(event.target.value);
  filter();
});
filter();

function cell(row, name) {
  return [...row.cells].find((one) => one.dataset.label === name);
}

// A row's points and intervals in the figures.
function drawings(row) {
  const number = row.id.slice(3);
  const names = ["speedup-by-length-dot", "speedup-by-length-bar", "speedup-by-gain-dot", "speedup-by-gain-bar"];
  return names.map((name) => document.getElementById(name + number)).filter(Boolean);
}

// What was chosen; a point of a figure is of a single workload, and stays while rows over all of them are shown.
function filter() {
  const chosen = new FormData(form);
  let shown = 0;
  for (const row of rows) {
    const kind = chosen.get("kind");
    const rest = ["target", "device", "architecture", "load", "run"].every((name) => is(chosen.get(name), row.dataset[name]));
    const counted = !counts.includes(kind) || (kind === "placed" ? row.dataset.kind !== "out" : row.dataset.kind === "measured");
    const workload = chosen.get("workload");
    const single = workload === "whole" || workload === "single" || is(workload, row.dataset.workload);
    const there = workload === "whole" ? row.dataset.whole === "yes" : row.dataset.workload !== "" && single;
    row.hidden = !(rest && counted && there);
    shown += row.hidden ? 0 : 1;
    for (const drawing of drawings(row)) drawing.style.display = rest && counted && single ? "" : "none";
  }
  document.getElementById("count").textContent = shown + " of " + rows.length + " rows";
}

function is(chosen, value) {
  return chosen === "" || chosen === "=" + value;
}

function sortBy(name) {
  const head = heads.find((one) => one.textContent.trim() === (name === "speedup" ? "speedup [95%]" : name));
  if (head) sort(head, false);
  else {
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    table.tBodies[0].append(...first);
  }
}

// Numbers by value, words by alphabet; rows that take no place, and cells without a number, stay last.
function sort(head, rising = head.getAttribute("aria-sort") !== "ascending") {
  const column = heads.indexOf(head);
  const numeric = head.classList.contains("n");
  const key = (row) => {
    const own = row.cells[column];
    return numeric ? parseFloat(own.dataset.value) : own.textContent.trim();
  };
  const last = (row) => (row.dataset.kind === "out" ? 2 : 0) + (numeric && isNaN(key(row)) ? 1 : 0);
  rows.sort((a, b) => {
    if (last(a) !== last(b)) return last(a) - last(b);
    const order = numeric ? (last(a) % 2 ? 0 : key(a) - key(b)) : key(a).localeCompare(key(b), undefined, { numeric: true });
    return rising ? order : -order;
  });
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  table.tBodies[0].append(...rows);
}
