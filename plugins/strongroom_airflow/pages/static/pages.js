// What the pages do beyond links and forms: choosing cells of the map, links to Airflow's own pages, operators that suit a column,
// and renewing while a run works.
"use strict";

// A page in Airflow's frame may not navigate the window around it, so such a link goes through Airflow's own router.
function leaveFrame(event) {
  const link = event.target.closest("a[data-airflow]");
  if (!link || window.parent === window || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const address = new URL(link.href);
  parent.history.pushState(null, "", address.pathname + address.search);
  parent.dispatchEvent(new parent.PopStateEvent("popstate", { state: parent.history.state }));
}

function setUpMap() {
  const map = document.getElementById("map");
  if (!map) return;
  const form = document.getElementById("selection"), bar = document.getElementById("bar");
  const rows = [...map.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")].map((cell) => cell.querySelector("a")));
  const place = new Map();
  rows.forEach((row, y) => row.forEach((cell, x) => cell && place.set(cell, [y, x])));
  let anchor = null, dragged = false, chosen = new Set();

  function show() {
    for (const cell of place.keys()) cell.classList.toggle("chosen", chosen.has(cell));
    form.querySelectorAll("input[name=cell]").forEach((field) => field.remove());
    for (const cell of chosen) {
      const field = document.createElement("input");
      field.type = "hidden"; field.name = "cell"; field.value = cell.dataset.cell;
      form.append(field);
    }
    bar.hidden = chosen.size === 0;
    document.getElementById("chosen").textContent = chosen.size + (chosen.size === 1 ? " cell chosen" : " cells chosen");
  }
  function choose(from, to) {
    const [y1, x1] = place.get(from), [y2, x2] = place.get(to);
    chosen = new Set();
    for (let y = Math.min(y1, y2); y <= Math.max(y1, y2); y++)
      for (let x = Math.min(x1, x2); x <= Math.max(x1, x2); x++)
        if (rows[y][x] && rows[y][x].dataset.cell) chosen.add(rows[y][x]);
    show();
  }
  function cellOf(event) {
    const cell = event.target.closest && event.target.closest("#map td a");
    return bar && cell && cell.dataset.cell ? cell : null;  // without a bar there is nothing that the user may do with cells
  }

  map.addEventListener("dragstart", (event) => event.preventDefault());
  map.addEventListener("pointerdown", (event) => {
    const cell = cellOf(event);
    if (!cell || event.button !== 0 || event.pointerType === "touch") return;
    dragged = false;
    if (!event.shiftKey || !anchor) anchor = cell;
  });
  map.addEventListener("pointerover", (event) => {
    const cell = cellOf(event);
    if (!cell || !anchor || event.buttons !== 1 || event.pointerType === "touch") return;
    if (cell !== anchor || dragged) { dragged = true; choose(anchor, cell); }
  });
  map.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell && event.shiftKey) { event.preventDefault(); anchor = anchor || cell; choose(anchor, cell); }
    else if (cell && dragged) event.preventDefault();
    dragged = false;
  });
  if (bar) document.getElementById("unselect").addEventListener("click", () => { chosen = new Set(); anchor = null; show(); });

  // One stop for the Tab key; arrows move inside, Shift and an arrow choose, Escape unselects.
  const cells = [...place.keys()];
  cells.forEach((cell) => { cell.tabIndex = -1; });
  if (cells.length) cells[cells.length - 1].tabIndex = 0;
  map.addEventListener("keydown", (event) => {
    const here = event.target.closest("#map td a");
    if (event.key === "Escape" && bar) { chosen = new Set(); anchor = null; show(); return; }
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!here || !step || !place.has(here)) return;
    event.preventDefault();
    let [y, x] = place.get(here);
    do { y += step[0]; x += step[1]; } while (rows[y] && x >= 0 && x < rows[y].length && !rows[y][x]);
    const next = rows[y] && rows[y][x];
    if (!next) return;
    here.tabIndex = -1; next.tabIndex = 0; next.focus();
    if (bar && event.shiftKey && next.dataset.cell) { anchor = anchor || (here.dataset.cell ? here : next); choose(anchor, next); }
    else if (!event.shiftKey) anchor = null;
  });
  const frame = map.parentElement;
  frame.scrollLeft = frame.scrollWidth;
}

// Without this script, a condition offers every operator, and the run says which of them does not suit its column.
function offerOperators(columns) {
  const operators = columns.closest(".line").querySelector("select[name=operator]");
  const suiting = columns.selectedOptions[0].dataset.operators;
  for (const one of operators.options) one.hidden = one.disabled = suiting !== undefined && !suiting.split("|").includes(one.value);
  if (operators.selectedOptions[0].disabled) operators.value = [...operators.options].find((one) => !one.disabled).value;
}
function offerAllOperators() {
  document.querySelectorAll("form.ask select[name=column]").forEach(offerOperators);
}

document.addEventListener("click", leaveFrame);
document.addEventListener("change", (event) => { if (event.target.matches("form.ask select[name=column]")) offerOperators(event.target); });
addEventListener("pageshow", offerAllOperators);  // also when the browser goes back to a form that was filled in
offerAllOperators();
setUpMap();
const renewed = document.querySelector("[data-renew]");
if (renewed) {
  const timer = setTimeout(() => location.reload(), 1000 * Number(renewed.dataset.renew));
  addEventListener("beforeunload", () => clearTimeout(timer));  // else it would cancel a link whose page takes longer
}
document.querySelectorAll("[data-copy]").forEach((button) => {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent)
      .then(() => { button.textContent = "Copied"; }, () => { button.textContent = "Select the text instead"; });
  });
});
