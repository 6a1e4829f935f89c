// The table of runs: menus, the order of columns, nested runs, and a selection that outlives a page.
//
// Without this module every choice still works: forms are sent by their buttons, nested runs stand open, and the
// runs selected on one page are compared.

import "./suggest.js";

const form = document.getElementById("look");
const send = () => form.requestSubmit();

for (const element of form.querySelectorAll("[data-send]")) element.addEventListener("change", send);
for (const element of form.querySelectorAll(".unscripted")) element.hidden = true;
for (const element of document.querySelectorAll(".sieve, .movers, [data-all], [data-fold]")) element.hidden = false;

// ---------------------------------------------------------------- menus

const menus = [...document.querySelectorAll("details.menu")];

function close(menu, { focus = false } = {}) {
  menu.open = false;
  if (focus) menu.querySelector("summary").focus();
}

for (const menu of menus) {
  menu.addEventListener("toggle", () => {
    if (!menu.open) return;
    for (const other of menus) if (other !== menu) close(other);
    const body = menu.querySelector(".menu-body");
    body.classList.toggle("to-left", menu.getBoundingClientRect().left + body.offsetWidth > document.documentElement.clientWidth - 8);
    menu.querySelector("[data-sieve], input:not([type=hidden]), a")?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close(menu, { focus: true });
  });
}
document.addEventListener("click", (event) => {
  for (const menu of menus) if (menu.open && !menu.contains(event.target)) close(menu);
});

for (const sieve of document.querySelectorAll("[data-sieve]")) {
  const lines = [...sieve.parentElement.querySelectorAll(".choices li")];
  sieve.addEventListener("input", () => {
    const wanted = sieve.value.trim().toLowerCase();
    for (const line of lines) line.hidden = !line.textContent.toLowerCase().includes(wanted);
  });
  sieve.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    lines.find((line) => !line.hidden && line.querySelector("input:not(:checked)"))?.querySelector("input").click();
  });
}

document.addEventListener("click", (event) => {
  const mover = event.target.closest("[data-move]");
  if (!mover) return;
  const line = mover.closest("li");
  if (mover.dataset.move === "-1") line.previousElementSibling?.before(line);
  else line.nextElementSibling?.after(line);
  mover.focus();
});

// ---------------------------------------------------------------- nested runs

const table = document.getElementById("runs");
const rows = [...(table?.querySelectorAll("tbody tr") ?? [])];
const folded = new Set();

function showNested() {
  const byRun = new Map(rows.map((row) => [row.dataset.run, row]));
  const inside = (row) => {
    const parent = row.dataset.parent;
    return Boolean(parent) && (folded.has(parent) || (byRun.has(parent) && inside(byRun.get(parent))));
  };
  for (const row of rows) row.hidden = inside(row);
}

table?.addEventListener("click", (event) => {
  const button = event.target.closest("[data-fold]");
  if (!button) return;
  const run = button.closest("tr").dataset.run;
  if (!folded.delete(run)) folded.add(run);
  button.setAttribute("aria-expanded", String(!folded.has(run)));
  showNested();
});

// ---------------------------------------------------------------- selection

// The selection belongs to the tab and to the project; a browser that keeps nothing still selects on one page.
const KEY = `everline-runs:${new URLSearchParams(location.search).get("project") ?? "default"}`;
const bar = document.getElementById("selection");

function kept() {
  try {
    return new Set(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
  } catch {
    return new Set();
  }
}

if (table && bar) {
  const most = Number(table.dataset.compareMax);
  const boxes = [...table.querySelectorAll('input[name="runs"]')];
  const all = table.querySelector("[data-all]");
  const count = bar.querySelector("[data-count]");
  const hint = count.textContent;
  const clear = bar.querySelector("[data-clear]");
  const compare = bar.querySelector('[type="submit"]');
  const chosen = kept();

  const show = () => {
    for (const box of boxes) {
      box.checked = chosen.has(box.value);
      box.closest("tr").classList.toggle("chosen", box.checked);
    }
    const here = boxes.filter((box) => box.checked).length;
    all.checked = here > 0 && here === boxes.length;
    all.indeterminate = here > 0 && here < boxes.length;
    const elsewhere = chosen.size - here;
    count.textContent = chosen.size
      ? `${chosen.size} selected${elsewhere ? `, ${elsewhere} of them on other pages` : ""}${chosen.size > most ? `: at most ${most} can be compared` : ""}`
      : hint;
    clear.hidden = chosen.size === 0;
    compare.disabled = chosen.size < 2 || chosen.size > most;
    bar.classList.toggle("active", chosen.size > 0);
    try {
      sessionStorage.setItem(KEY, JSON.stringify([...chosen]));
    } catch {
      // Nothing is kept then: the selection lasts for this page.
    }
  };
  const put = (box, on) => (on ? chosen.add(box.value) : chosen.delete(box.value));

  let last = null;
  table.addEventListener("click", (event) => {
    const box = event.target.closest('input[name="runs"]');
    if (!box) return;
    const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)];
    const range = event.shiftKey && from >= 0 ? boxes.slice(Math.min(from, to), Math.max(from, to) + 1) : [box];
    for (const one of range) put(one, box.checked);
    last = box;
    show();
  });
  all.addEventListener("change", () => {
    for (const box of boxes) put(box, all.checked);
    show();
  });
  clear.addEventListener("click", () => {
    chosen.clear();
    show();
  });
  document.getElementById("compare").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams({ runs: [...chosen].join(",") });
    const project = event.target.elements.project?.value;
    if (project) query.set("project", project);
    location.assign(`/runs/compare?${query}`);
  });
  addEventListener("pageshow", show);
  show();
}
