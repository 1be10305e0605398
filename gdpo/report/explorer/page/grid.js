// A table that can be sorted by each column and filtered, and whose cells the arrow keys move between.
"use strict";

/**
 * `columns`: {title, numeric, note}; `rows`: {cells, text, first}; a cell: {text, sub, value, node, kind, open, label}.
 * The first cell of a row is its head. `value` is what a column is sorted by; a cell with `open` is a button.
 */
explorer.grid = ({ label, columns, rows }) => {
  const { el, matches } = explorer;
  const body = el("tbody");
  const drawn = rows.map((row) => ({ row, node: line(row) }));
  let sorted = null;
  let filter = "";

  function line(row) {
    return el("tr", { class: row.first ? "first" : null }, row.cells.map((cell, i) => {
      const shape = [cell.kind, columns[i].numeric ? "number" : null, i === 0 ? "stick" : null].filter(Boolean).join(" ");
      const inside = cell.node || (cell.open
        ? el("button", { type: "button", class: "cell", tabindex: "-1", "aria-label": cell.label, on: { click: cell.open } },
          el("i", {}, cell.text), cell.sub ? el("small", {}, cell.sub) : null)
        : el("span", {}, cell.text, cell.sub ? el("small", {}, ` ${cell.sub}`) : null));
      return el(i === 0 ? "th" : "td", { class: shape || null, scope: i === 0 ? "row" : null }, inside);
    }));
  }

  function compare(a, b, column) {
    const [x, y] = [a, b].map((entry) => entry.row.cells[column].value);
    const missing = [x, y].map((v) => v === null || v === undefined || v === "");
    if (missing[0] || missing[1]) return missing[0] - missing[1]; // what is missing comes last either way
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return sorted.down ? -order : order;
  }

  function draw() {
    let kept = drawn.filter(({ row }) => matches(row.text, filter));
    if (sorted) kept = kept.slice().sort((a, b) => compare(a, b, sorted.column));
    const none = el("tr", {}, el("td", { colspan: columns.length }, el("span", { class: "note" }, "No row matches the filter.")));
    body.replaceChildren(...(kept.length ? kept.map(({ node }) => node) : [none]));
    for (const button of body.querySelectorAll("button.cell")) button.tabIndex = -1;
    const first = body.querySelector("button.cell");
    if (first) first.tabIndex = 0;
    heads.forEach((head, i) => {
      head.setAttribute("aria-sort", sorted && sorted.column === i ? (sorted.down ? "descending" : "ascending") : "none");
    });
  }

  function sort(column) {
    const down = sorted && sorted.column === column ? !sorted.down : Boolean(columns[column].numeric);
    sorted = { column, down };
    draw();
  }

  const heads = columns.map((column, i) => el("th", { scope: "col", title: column.note,
    class: [column.numeric ? "number" : null, i === 0 ? "stick" : null].filter(Boolean).join(" ") || null },
  el("button", { type: "button", on: { click: () => sort(i) } }, column.title)));

  const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  function move(event) {
    const step = MOVES[event.key];
    const here = event.target.closest("button.cell");
    if (!step || !here) return;
    event.preventDefault();
    const cell = here.closest("td");
    let [row, column] = [cell.parentNode, cell.cellIndex];
    for (;;) { // over cells that have nothing to open
      if (step[0]) row = step[0] > 0 ? row.nextElementSibling : row.previousElementSibling;
      column += step[1];
      if (!row || !row.cells[column]) return;
      const next = row.cells[column].querySelector("button.cell");
      if (next) {
        here.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
        return;
      }
    }
  }

  draw();
  const table = el("table", { "aria-label": label, on: { keydown: move } }, el("thead", {}, el("tr", {}, heads)), body);
  const node = el("div", { class: "scroll", tabindex: "-1" }, table);
  return { node, filter(text) { filter = text; draw(); } };
};

/** A grid of a CSV's columns and rows, as data/runs.js and tables of other kinds have them. */
explorer.plain = (label, { columns, rows }) => {
  const text = (cell) => (Array.isArray(cell) ? cell[0] : cell);
  const numeric = columns.map((_, i) => {
    const filled = rows.map((row) => text(row[i])).filter((value) => value !== "");
    return filled.length > 0 && filled.every((value) => !Number.isNaN(Number(value)));
  });
  const cell = (value, i) => ({
    text: text(value),
    sub: Array.isArray(value) && value[1] !== "" && value[1] !== value[2] ? `[${value[1]}, ${value[2]}]` : null,
    value: numeric[i] && text(value) !== "" ? Number(text(value)) : text(value),
    node: text(value).length > 70 ? explorer.el("div", { class: "clamp text" }, text(value)) : null,
  });
  return explorer.grid({
    label,
    columns: columns.map((title, i) => ({ title: title.replaceAll("_", " "), numeric: numeric[i] })),
    rows: rows.map((row) => ({ cells: row.map(cell), text: row.map(text).join(" ") })),
  });
};
