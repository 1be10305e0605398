// Tables: scores, the difference from any row, and retention, each with its 95% interval.
"use strict";

(() => {
  const { el, select, search, chips, number, signed, range } = explorer;
  const OWN = "own"; // differences are from each student's own untrained model
  const state = { show: "score", base: OWN, filter: "" };
  let escape = () => false;

  const SHOWN = [["score", "Scores"], ["difference", "Difference"], ["retention", "Retention"]];
  const SAY = {
    score: "Percent right, mean over seeds [95% interval]. ↑ ↓: significantly above or below the untrained student.",
    difference: "Points, after minus before [95% interval, paired]. Coloured where the interval leaves out zero.",
    retention: "Of what the untrained student had right, the percent still right [95% interval].",
  };

  /** Row `row` minus row `base` in column `c`: [mean, low, high], or null. */
  function difference(table, row, base, c) {
    if (row === base) return null;
    const found = row > base ? table.differences[base][row - base - 1][c] : table.differences[row][base - row - 1][c];
    if (!found || row > base) return found;
    return [-found[0], -found[2], -found[1]].map((value) => value + 0);
  }

  const ownOrigin = (table, row) => table.rows.findIndex((one) => one.origin && one.before === table.rows[row].before);
  const baseOf = (table, row) => (state.base === OWN ? ownOrigin(table, row) : Number(state.base));
  const colour = (series) => (series < 0 ? "#6b7280" : explorer.scale.palette[series % explorer.scale.palette.length]);
  const titleOf = (row) => `${row.student} · ${row.title}`;

  function cellOf(table, name, row, c) {
    const { key, title, benchmarks } = table.columns[c];
    const average = benchmarks.length !== 1 || benchmarks[0] !== key ? "average" : null;
    const base = baseOf(table, row);
    const change = state.show === "difference";
    const found = change ? (base < 0 ? null : difference(table, row, base, c)) : table[state.show][row][c];
    if (!found) return { text: row === base && change ? "base" : "", kind: average };
    const [mean, low, high] = found;
    const sign = change ? (low > 0 ? 1 : high < 0 ? -1 : 0) : state.show === "score" ? table.marks[row][c] : 0;
    const text = change ? signed(mean) : number(mean) + (sign > 0 ? " ↑" : sign < 0 ? " ↓" : "");
    const spread = range(low, high);
    const from = change && state.base !== OWN ? base : "own";
    return { text, sub: spread, value: mean, kind: [average, sign > 0 ? "up" : sign < 0 ? "down" : null].filter(Boolean).join(" "),
      label: `${titleOf(table.rows[row])}, ${title}: ${text} ${spread}; show its items`,
      open: benchmarks.length ? () => explorer.go("items", name, row, key, from) : null };
  }

  function headOf(table, row, redraw) {
    const { student, title, series, seeds, origin } = table.rows[row];
    const pressed = state.show === "difference" && state.base === String(row);
    const pick = () => {
      Object.assign(state, pressed ? { show: "score", base: OWN } : { show: "difference", base: String(row) });
      redraw();
    };
    const seedText = origin ? "untrained" : seeds === 1 ? "1 seed" : `${seeds} seeds`;
    return { value: `${student} ${title}`, node: el("div", { class: "rowname" },
      el("span", { class: "swatch", style: { background: colour(series) } }),
      el("div", {}, title, el("small", {}, `${student}, ${seedText}`)),
      el("button", { type: "button", class: "delta", title: `differences from ${student} · ${title}`,
        "aria-label": `Show differences from ${titleOf(table.rows[row])}`, "aria-pressed": String(pressed), on: { click: pick } }, "Δ")) };
  }

  function scores(name, table, redraw) {
    const grid = explorer.grid({
      label: table.title,
      columns: [{ title: "row" }, ...table.columns.map(({ title }) => ({ title, numeric: true }))],
      rows: table.rows.map((row, r) => ({
        cells: [headOf(table, r, redraw), ...table.columns.map((_, c) => cellOf(table, name, r, c))],
        text: titleOf(row),
        first: r > 0 && table.rows[r - 1].student !== row.student,
      })),
    });
    const bases = [[OWN, "each student's Origin"], ...table.rows.map((row, r) => [r, titleOf(row)])];
    return [
      el("div", { class: "bar" },
        chips("What is shown", SHOWN, state.show, (show) => { state.show = show; redraw(); }),
        state.show === "difference" ? select("from", bases, state.base, (base) => { state.base = base; redraw(); }) : null,
        search(state.filter, (text) => { state.filter = text; grid.filter(text); }),
        el("p", { class: "note" }, SAY[state.show])),
      grid, table.notes];
  }

  function other(table) {
    const grid = explorer.plain(table.title, table);
    return [el("div", { class: "bar" }, search(state.filter, (text) => { state.filter = text; grid.filter(text); })), grid, []];
  }

  async function draw([name = explorer.scale.first]) {
    const known = explorer.scale.tables.find((table) => table.name === name) || explorer.scale.tables[0];
    const table = await explorer.need(`tables/${known.name}`);
    if (state.base !== OWN && !(table.rows && table.rows[state.base])) state.base = OWN;
    const redraw = () => {
      const [bar, grid, notes] = known.kind === "scores" ? scores(known.name, table, redraw) : other(table);
      if (state.filter) grid.filter(state.filter);
      const names = explorer.scale.tables.map((one) => [one.name, one.title]);
      explorer.show(
        el("div", { class: "head" }, el("h2", {}, table.title), select("Table", names, known.name, (chosen) => explorer.go("tables", chosen))),
        bar, grid.node,
        notes.length ? el("details", {}, el("summary", {}, "How to read this table"), el("ul", { class: "notes" }, notes.map((note) => el("li", {}, note)))) : null);
    };
    escape = () => {
      if (!state.filter && state.show === "score") return false;
      Object.assign(state, { filter: "", show: "score", base: OWN });
      redraw();
      return true;
    };
    redraw();
  }

  Object.assign(explorer, { difference, ownOrigin, colour, titleOf });
  explorer.views.tables = { title: "Tables", draw, escape: () => escape() };
})();
