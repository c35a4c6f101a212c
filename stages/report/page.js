// Sorts the tables of the page; without it they stand in the order of the report.
"use strict";
const NUMBER = /^[-+]?[\d,]*\.?\d+(e[-+]?\d+)?/;

function value(row, column, numeric) {
  const text = row.cells[column]?.textContent.trim() ?? "";
  if (!numeric) return text;
  const found = NUMBER.exec(text);
  return found ? Number(found[0].replaceAll(",", "")) : NaN;
}

// What is no number comes last, whichever way the rest is sorted.
function order(a, b, numeric, sign) {
  if (!numeric) return sign * a.localeCompare(b, "en", { numeric: true });
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return sign * (a - b);
}

function sort(table, heading, direction) {
  const column = heading.cellIndex;
  const numeric = heading.classList.contains("number");
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("metric"));
    rows.sort((a, b) => a.dataset.place - b.dataset.place);
    if (direction !== "none") {
      const sign = direction === "ascending" ? 1 : -1;
      rows.sort((a, b) => order(value(a, column, numeric), value(b, column, numeric), numeric, sign));
    }
    body.append(...rows);
  }
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  if (direction !== "none") heading.setAttribute("aria-sort", direction);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const body of table.tBodies) [...body.rows].forEach((row, place) => { row.dataset.place = place; });
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" };
      sort(table, heading, next[heading.getAttribute("aria-sort")] ?? "ascending");
    });
  }
}
