// Fronts, claims, figures and runs.
"use strict";

(() => {
  const { el, select, search, chips, signed, number, range, titleOf } = explorer;
  const TITLES = { kl: "KL from the untrained student, nats per token", forgetting: "forgetting, %", gain: "gain, points" };
  const MARKS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "triangle-left", "hexagon"];
  const fronts = { column: null, student: null };

  /** plotly.js takes a few tags in its texts: what a scale calls its rows is none of them. */
  const inert = (text) => explorer.visible(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  let library = null;
  function plotly() {
    library ||= new Promise((resolve, reject) => {
      const tag = el("script", { src: "plotly.min.js", on: { load: resolve, error: reject } });
      document.head.append(tag);
    });
    return library;
  }

  /** Marks the points that no other dominates: with no more of x and no less of y, and another. */
  function pareto(points) {
    return points.map((one) => !points.some((other) =>
      other.x <= one.x && other.y >= one.y && (other.x !== one.x || other.y !== one.y)));
  }

  const hover = (point, x, y) => [`<b>${inert(point.name)}</b>`,
    `${inert(x)}: ${number(point.x, 2)}${point.xs ? ` ${inert(range(...point.xs))}` : ""}`,
    `${inert(y)}: ${signed(point.y, 2)}${point.ys ? ` ${inert(range(...point.ys))}` : ""}`].join("<br>") + "<extra></extra>";

  async function plot(node, points, x, y, log) {
    await plotly();
    const names = [...new Set(points.map((point) => point.row))];
    const errors = (list, value, key) => ({ type: "data", symmetric: false, thickness: 1, width: 0,
      array: list.map((p) => (p[key] ? Math.max(0, p[key][1] - p[value]) : 0)),
      arrayminus: list.map((p) => (p[key] ? Math.max(0, p[value] - p[key][0]) : 0)) });
    const traces = names.map((name, n) => {
      const list = points.filter((point) => point.row === name);
      return { type: "scatter", mode: list.length > 1 ? "lines+markers" : "markers", name: inert(name), x: list.map((p) => p.x), y: list.map((p) => p.y),
        error_x: errors(list, "x", "xs"), error_y: errors(list, "y", "ys"), customdata: list.map((p) => p.open || null),
        line: { width: 1, color: list[0].colour }, hovertemplate: list.map((p) => hover(p, x, y)),
        marker: { color: list[0].colour, symbol: MARKS[n % MARKS.length], size: 11, line: { width: 1, color: "#fff" } } };
    });
    const front = points.filter((point) => point.front).sort((a, b) => a.x - b.x);
    traces.unshift({ type: "scatter", mode: "lines+markers", name: "Pareto front", hoverinfo: "skip", x: front.map((p) => p.x), y: front.map((p) => p.y),
      line: { shape: "hv", color: "#1d2430", width: 1.5 }, marker: { symbol: "circle-open", size: 19, color: "#1d2430", line: { width: 1.5 } } });
    const axis = { gridcolor: "#e6e9ee", zerolinecolor: "#9aa3b0", linecolor: "#9aa3b0", ticks: "outside", tickcolor: "#9aa3b0" };
    const layout = { font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1d2430" }, margin: { l: 72, r: 20, t: 20, b: 70 },
      xaxis: { ...axis, title: { text: inert(x), font: { size: 13 }, standoff: 12 }, type: log ? "log" : "linear" }, yaxis: { ...axis, title: { text: inert(y), font: { size: 13 }, standoff: 12 } },
      hovermode: "closest", hoverlabel: { bgcolor: "#fff", bordercolor: "#9aa3b0", font: { size: 13, color: "#1d2430" } }, legend: { font: { size: 13 } },
      paper_bgcolor: "#fff", plot_bgcolor: "#fff" };
    await window.Plotly.newPlot(node, traces, layout, { displayModeBar: false, responsive: true });
    node.on("plotly_click", (event) => { const open = event.points[0].customdata; if (open) explorer.go(...open); });
  }

  function pointGrid(points, x, y) {
    return explorer.grid({
      label: "The plot's points",
      columns: [{ title: "row" }, { title: "on the front" }, { title: x, numeric: true }, { title: y, numeric: true }],
      rows: points.map((p) => ({ text: p.name, cells: [
        { value: p.name, node: el("div", { class: "rowname" }, el("span", { class: "swatch", style: { background: p.colour } }), el("div", {}, p.name)) },
        { text: p.front ? "yes" : "", value: p.front ? "a" : "b" },
        { text: number(p.x, 2), sub: p.xs ? range(...p.xs) : null, value: p.x },
        { text: signed(p.y, 2), sub: p.ys ? range(...p.ys) : null, value: p.y }] })),
    }).node;
  }

  async function tableFront(name) {
    const table = await explorer.need(`tables/${name}`);
    const students = [...new Set(table.rows.map((row) => row.student))];
    const able = table.columns.filter((column, c) => table.rows.some((_, r) => table.retention[r][c]));
    const wanted = able.find((column) => column.key === fronts.column) || able.find((column) => column.key === "overall_avg")
      || able.find((column) => column.key.endsWith("_avg")) || able[0];
    const student = students.includes(fronts.student) ? fronts.student : students[0];
    const c = table.columns.indexOf(wanted);
    const points = wanted ? table.rows.flatMap((row, r) => {
      const base = explorer.ownOrigin(table, r);
      const [kept, gain] = [table.retention[r][c], base < 0 ? null : explorer.difference(table, r, base, c)];
      if (row.origin || row.student !== student || !kept || !gain) return [];
      return [{ name: titleOf(row), row: row.title, colour: explorer.colour(row.series), x: 100 - kept[0], xs: [100 - kept[2], 100 - kept[1]],
        y: gain[0], ys: gain.slice(1), open: ["items", name, r, wanted.key, "own", "lost"] }];
    }) : [];
    const choices = [select("Student", students.map((one) => [one, one]), student, (to) => { fronts.student = to; drawFronts(["table", name]); }),
      wanted ? select("Column", able.map((one) => [one.key, one.title]), wanted.key, (to) => { fronts.column = to; drawFronts(["table", name]); }) : null];
    return { points, x: "forgotten, % of what the untrained student had right", y: "change of the score, points", choices,
      note: "Better is further up and to the left: more gained, less forgotten. Click a point for the items that it forgot." };
  }

  async function studyFront(name, axes) {
    const study = (await explorer.need("fronts")).find((one) => one.name === name);
    const students = [...new Set(study.rows.map((row) => row.student))];
    const student = students.includes(fronts.student) ? fronts.student : students[0];
    const names = [...new Set(study.rows.map((row) => row.row))];
    const [x, y] = axes.split("-");
    const bounds = (row, key) => (row[`${key}_low`] ? [Number(row[`${key}_low`]), Number(row[`${key}_high`])] : null);
    const points = study.rows.filter((row) => row.student === student && row[x] !== "" && row[y] !== "").map((row) => ({
      name: `${row.row}, rate ${row.learning_rate}`, row: row.row, colour: explorer.colour(names.indexOf(row.row)), front: row.pareto === "1",
      x: Number(row[x]), xs: bounds(row, x), y: Number(row[y]), ys: bounds(row, y) }));
    const pairs = [["forgetting-gain", "gain against forgetting"], ["kl-gain", "gain against KL"], ["kl-forgetting", "forgetting against KL"]];
    const choices = [select("Student", students.map((one) => [one, one]), student, (to) => { fronts.student = to; drawFronts(["study", name, axes]); }),
      select("Axes", pairs, axes, (to) => drawFronts(["study", name, to]))];
    return { points, fixed: true, x: TITLES[x], y: TITLES[y], choices, note: study.caption, log: x === "kl" };
  }

  async function drawFronts([kind = "table", name, axes = "forgetting-gain"]) {
    const tables = explorer.scale.tables.filter((table) => table.kind === "scores");
    const studies = await explorer.need("fronts");
    name ||= tables.some((table) => table.name === explorer.scale.first) ? explorer.scale.first : tables[0]?.name;
    if (!name) return explorer.show(el("p", { class: "note" }, "This scale has no table of scores."));
    const { points, fixed, x, y, choices, note, log } = await (kind === "study" ? studyFront(name, axes) : tableFront(name));
    if (!fixed) pareto(points).forEach((on, i) => { points[i].front = on; });
    const known = [...studies.map((study) => [`study/${study.name}`, study.title]), ...tables.map((table) => [`table/${table.name}`, table.title])];
    const node = el("div", { class: "plot", role: "img", "aria-label": `${y} against ${x}; the table below has its numbers` });
    explorer.show(
      el("div", { class: "head" }, el("h2", {}, "Fronts: what is gained, and what is forgotten")),
      el("div", { class: "bar" }, select("Of", known, `${kind}/${name}`, (to) => explorer.go("fronts", ...to.split("/"))), choices),
      el("p", { class: "note" }, note), node, pointGrid(points, x, y));
    const positive = points.every((point) => point.x > 0);
    await plot(node, points, x, y, log && positive);
  }

  function claimDialog(claim) {
    const told = [["Source", claim.source], ["Rule", claim.test], ["Claimed", claim.claimed], ["Effect", effectOf(claim)],
      ["p, adjusted", claim.p_holm && `${claim.p}, ${claim.p_holm}`], ["Published", claim.published], ["By student", claim.per_student],
      ["Items", claim.n], ["Reading", claim.reading], ["Note", claim.note]];
    explorer.dialog(claim.statement, el("p", {}, el("span", { class: `verdict ${claim.verdict}` }, claim.verdict), " ", el("code", {}, claim.id)),
      el("dl", {}, told.filter(([, text]) => text).flatMap(([key, text]) => [el("dt", { class: "note" }, key), el("dd", { class: "text" }, text)])));
  }

  const minus = (text) => Number(text).toFixed(2).replace("-", "−");
  const effectOf = (claim) => (claim.effect === "" ? "" :
    `${minus(claim.effect)}${claim.low === "" ? "" : ` [${minus(claim.low)}, ${minus(claim.high)}]`} ${claim.unit}`);

  const picked = { test: "all", filter: "" };
  async function drawClaims([verdict = "all"]) {
    const { rule, claims } = await explorer.need("claims");
    const count = (key, field) => claims.filter((claim) => key === "all" || claim[field] === key).length;
    const verdicts = ["all", ...new Set(claims.map((claim) => claim.verdict))];
    const tests = ["all", ...new Set(claims.map((claim) => claim.test))];
    const kept = claims.filter((claim) => (verdict === "all" || claim.verdict === verdict) && (picked.test === "all" || claim.test === picked.test));
    const grid = explorer.grid({
      label: "Claims",
      columns: ["claim", "verdict", "rule", "claimed"].map((title) => ({ title })).concat([{ title: "effect", numeric: true }, { title: "source" }]),
      rows: kept.map((claim) => ({ text: Object.values(claim).join(" "), cells: [
        { value: claim.statement, kind: "claim", node: el("div", { class: "clamp" }, el("button", { type: "button", class: "open", on: { click: () => claimDialog(claim) } }, claim.statement)) },
        { value: claim.verdict, node: el("div", {}, el("span", { class: `verdict ${claim.verdict}` }, claim.verdict)) },
        { text: claim.test, value: claim.test }, { text: claim.claimed, value: claim.claimed },
        { text: effectOf(claim), value: claim.effect === "" ? null : Number(claim.effect) }, { text: claim.source, value: claim.source }] })),
    });
    if (picked.filter) grid.filter(picked.filter);
    explorer.show(
      el("div", { class: "head" }, el("h2", {}, "The paper's claims, each as a test")),
      el("div", { class: "bar" },
        chips("Verdict", verdicts.map((key) => [key, key, count(key, "verdict")]), verdict, (to) => explorer.go("claims", to)),
        select("Rule", tests.map((key) => [key, `${key} (${count(key, "test")})`]), picked.test, (to) => { picked.test = to; drawClaims([verdict]); }),
        search(picked.filter, (text) => { picked.filter = text; grid.filter(text); })),
      grid.node,
      el("details", {}, el("summary", {}, "How a verdict is reached"), el("pre", { class: "note" }, rule.join("\n"))));
  }

  function drawFigures([name]) {
    const shown = explorer.scale.figures;
    const source = (figure) => `figures/${encodeURIComponent(figure.name)}.png`;
    const open = (i) => {
      const at = (i + shown.length) % shown.length;
      const step = (by, label) => el("button", { type: "button", class: "quiet", on: { click: () => open(at + by) } }, label);
      const node = explorer.dialog(shown[at].title, el("img", { src: source(shown[at]), alt: shown[at].title }),
        el("p", { class: "note" }, shown[at].caption), el("div", { class: "split" }, step(-1, "← previous"), step(1, "next →")));
      node.onkeydown = (event) => { if (event.key === "ArrowLeft") open(at - 1); if (event.key === "ArrowRight") open(at + 1); };
      explorer.replace("figures", shown[at].name);
    };
    explorer.show(el("div", { class: "head" }, el("h2", {}, "Figures")),
      shown.length ? el("div", { class: "cards" }, shown.map((figure, i) => el("button", { type: "button", class: "card", on: { click: () => open(i) } },
        el("img", { src: source(figure), alt: "" }), el("span", {}, figure.title)))) : el("p", { class: "note" }, "This scale has no figure."));
    const wanted = shown.findIndex((figure) => figure.name === name);
    if (wanted >= 0) open(wanted);
  }

  async function drawRuns() {
    const { runs, cost } = await explorer.need("runs");
    const [first, second] = [explorer.plain("Trained runs", runs), explorer.plain("Time by step", cost)];
    explorer.show(
      el("div", { class: "head" }, el("h2", {}, "Trained runs, and what they took")),
      el("div", { class: "bar" }, search("", (text) => { first.filter(text); second.filter(text); }),
        el("p", { class: "note" }, "Seconds of training and of scoring on test items; memory in MB.")),
      first.node, el("div", { class: "head", style: { marginTop: "26px" } }, el("h2", {}, "Time by step")), second.node);
  }

  explorer.views.fronts = { title: "Fronts", draw: drawFronts, escape: () => false };
  explorer.views.claims = { title: "Claims", draw: drawClaims, escape: () => false };
  explorer.views.figures = { title: "Figures", draw: drawFigures, escape: () => false };
  explorer.views.runs = { title: "Runs", draw: drawRuns, escape: () => false };
})();
