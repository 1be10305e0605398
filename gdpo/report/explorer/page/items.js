// Items of a cell before and after training, and the groups of a training set with the parts of each reward.
"use strict";

(() => {
  const { el, select, search, chips, matches, titleOf } = explorer;
  const VERDICTS = { r: "right", w: "wrong", u: "ungradable" };
  const CHANGES = { all: "All", lost: "1→0 forgotten", won: "0→1 gained", kept: "1→1 kept", still: "0→0 not solved" };
  const SHORT = { lost: "1→0", won: "0→1", kept: "1→1", still: "0→0" };
  const MOST = 400; // rows of a list that are drawn at once
  let escape = () => false;

  const right = (letters) => 2 * [...letters].filter((letter) => letter === "r").length >= letters.length;
  const verdict = (letter, cut) => {
    const name = cut && letter !== "r" ? "cut off" : VERDICTS[letter];
    return el("span", { class: `verdict ${VERDICTS[letter]}` }, name);
  };
  const box = (title, extra, ...nodes) => el("section", { class: "box" }, el("h3", {}, title, extra), nodes);
  const block = (text) => (text === "" ? el("p", { class: "note" }, "(empty)") : el("pre", {}, text));

  /** A list that arrow keys move in, with the chosen entry's detail beside it; returns the node and its functions. */
  function panes({ label, entries, row, detail, chosen }) {
    const list = el("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label });
    const side = el("div", { class: "detail", "aria-live": "polite" });
    let [shown, current] = [[], null];

    function choose(entry, scroll) {
      current = entry;
      for (const node of list.children) node.setAttribute("aria-selected", String(node.entry === entry));
      const node = [...list.children].find((one) => one.entry === entry);
      if (node) list.setAttribute("aria-activedescendant", node.id);
      if (node && scroll) node.scrollIntoView({ block: "nearest" });
      side.replaceChildren(...(entry ? detail(entry) : []));
      if (entry) chosen(entry);
    }

    function fill(kept) {
      shown = kept;
      list.replaceChildren(...kept.slice(0, MOST).map((entry, i) => {
        const node = el("div", { class: "item", role: "option", id: `item-${i}`, on: { click: () => choose(entry, false) } }, row(entry));
        node.entry = entry;
        return node;
      }));
      if (!kept.length) list.append(el("p", { class: "note item" }, "", "No item matches."));
      if (kept.length > MOST) list.append(el("p", { class: "note item" }, "", `${kept.length - MOST} more: filter to see them.`));
      choose(kept.includes(current) ? current : kept[0] || null, true);
    }

    list.addEventListener("keydown", (event) => {
      const at = shown.indexOf(current);
      const last = Math.min(shown.length, MOST) - 1;
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
      if (to === undefined || to < 0 || to > last) return;
      event.preventDefault();
      choose(shown[to], true);
    });
    return { node: el("div", { class: "panes" }, list, side), fill, list, start: (entry) => { current = entry; }, entries };
  }

  /** Each item of the benchmarks that both runs answered, with its texts. */
  async function itemsOf(benchmarks, before, after) {
    const found = await Promise.all(benchmarks.map(async (name) => {
      const chunk = await explorer.need(`items/${name}`);
      const [old, now] = [chunk.runs[before], chunk.runs[after]];
      if (!old || !now) return [];
      const places = [...chunk.items.flatMap((item) => item.slice(1)), ...old.t.flat(), ...now.t.flat()];
      const text = await explorer.texts(`items/${name}`, chunk.pieces, places);
      const answers = (run) => {
        const verdicts = run.v.split(" ");
        const cut = new Set(run.c || []);
        return (i) => ({ verdicts: verdicts[i], texts: [run.t[i]].flat().map(text), cut: cut.has(i) });
      };
      const [was, is] = [answers(old), answers(now)];
      return chunk.items.map(([id, prompt, reference], i) => {
        const entry = { id, benchmark: chunk.title, prompt: text(prompt), reference: text(reference), before: was(i), after: is(i) };
        const key = [right(entry.before.verdicts), right(entry.after.verdicts)].map(Number).join("");
        entry.change = { "10": "lost", "01": "won", "11": "kept", "00": "still" }[key];
        entry.search = [id, entry.prompt, entry.reference, ...entry.before.texts, ...entry.after.texts].join("\n");
        return entry;
      });
    }));
    return found.flat();
  }

  function answer(title, run) {
    const share = `${[...run.verdicts].filter((letter) => letter === "r").length} of ${run.verdicts.length} right`;
    const many = run.texts.length > 1;
    const extra = many ? el("small", {}, share) : verdict(run.verdicts, run.cut);
    return box(title, extra, run.texts.map((text, i) => [many ? verdict(run.verdicts[i], run.cut) : null, block(text)]).flat());
  }

  async function draw([name, row, key, from = "own", change = "all", id = ""]) {
    const table = await explorer.need(`tables/${name}`);
    const shown = table.rows[row];
    const column = table.columns.find((one) => one.key === key);
    const base = from === "own" ? { run: shown.before, title: "Origin", student: shown.student } : table.rows[from];
    const entries = await itemsOf(column.benchmarks, base.run, shown.run);
    const state = { change: CHANGES[change] ? change : "all", filter: "", id };
    const put = () => explorer.replace("items", name, row, key, from, state.change, ...(state.id ? [state.id] : []));
    const several = column.benchmarks.length > 1;
    const view = panes({
      label: "Items", entries,
      row: (entry) => [el("span", { class: `change ${entry.change}` }, SHORT[entry.change]),
        el("div", {}, el("p", { class: "text" }, entry.prompt), el("small", {}, several ? `${entry.benchmark} · ${entry.id}` : entry.id))],
      detail: (entry) => [
        box("Prompt", el("small", {}, `${entry.benchmark} · ${entry.id}`), block(entry.prompt), el("h3", {}, "Reference answer"), block(entry.reference)),
        el("div", { class: "pair" }, answer(`Before: ${titleOf(base)}`, entry.before), answer(`After: ${titleOf(shown)}, seed ${shown.seed}`, entry.after))],
      chosen: (entry) => { state.id = entry.id; put(); },
    });
    const count = (kind) => entries.filter((entry) => kind === "all" || entry.change === kind).length;
    const bar = el("div", { class: "bar" });
    const apply = () => {
      bar.replaceChildren(chips("Changes", Object.entries(CHANGES).map(([kind, title]) => [kind, title, count(kind)]), state.change,
        (kind) => { state.change = kind; apply(); bar.querySelector(`[data-key=${kind}]`).focus(); }), input);
      view.fill(entries.filter((entry) => (state.change === "all" || entry.change === state.change) && matches(entry.search, state.filter)));
    };
    const input = search("", (text) => { state.filter = text; apply(); input.focus(); });
    const rows = table.rows.map((one, r) => [r, titleOf(one)]);
    const columns = table.columns.filter((one) => one.benchmarks.length).map((one) => [one.key, one.title]);
    explorer.show(
      el("div", { class: "head" }, el("h2", {}, `${titleOf(shown)} on ${column.title}`),
        el("button", { type: "button", class: "quiet", id: "back", on: { click: () => explorer.go("tables", name) } }, "← Table ", el("kbd", {}, "Esc"))),
      el("div", { class: "bar" },
        select("Row", rows, row, (to) => explorer.go("items", name, to, key, from, state.change)),
        select("Column", columns, key, (to) => explorer.go("items", name, row, to, from, state.change)),
        select("Before", [["own", "the untrained student"], ...rows], from, (to) => explorer.go("items", name, row, key, to, state.change))),
      bar, view.node,
      el("p", { class: "note" }, `First seed alone; the table's cell is a mean over ${shown.seeds === 1 ? "one seed" : `${shown.seeds} seeds`}. An item counts as right where at least half of its answers are.`));
    view.start(entries.find((entry) => entry.id === id) || null);
    apply();
    escape = () => {
      if (state.filter) { input.value = ""; state.filter = ""; apply(); } else explorer.go("tables", name);
      return true;
    };
    view.list.focus({ preventScroll: true });
  }

  const PARTS = ["correctness", "partial", "format", "length"];

  function completion(entry, text) {
    const [place, reward, letter, ...parts] = entry;
    const told = parts.map((value, i) => [PARTS[i], value]).filter(([part, value]) => part !== "partial" || value);
    return box(el("span", {}, "Reward ", el("b", {}, reward.toFixed(2))), letter ? verdict(letter) : null,
      block(text(place)), told.length ? el("p", { class: "note" }, told.map(([part, value]) => `${part} ${value.toFixed(2)}`).join(" · ")) : null);
  }

  async function drawTraining([name = explorer.scale.trainsets[0]?.name]) {
    if (!name) return explorer.show(el("p", { class: "note" }, "The tables of this scale have no trained row."));
    const chunk = await explorer.need(`groups/${name}`);
    const places = chunk.groups.flatMap(([, prompt, completions]) => [prompt, ...completions.map((one) => one[0])]);
    const text = await explorer.texts(`groups/${name}`, chunk.pieces, places);
    const entries = chunk.groups.map(([id, prompt, completions]) => {
      const rewards = completions.map((one) => one[1]);
      const search = [id, text(prompt), ...completions.map((one) => text(one[0]))].join("\n");
      return { id, prompt: text(prompt), completions, spread: Math.max(...rewards) - Math.min(...rewards), search };
    });
    const view = panes({
      label: "Groups", entries,
      row: (entry) => [el("span", { class: "change kept", title: "largest minus smallest reward" }, entry.spread.toFixed(2)),
        el("div", {}, el("p", { class: "text" }, entry.prompt), el("small", {}, `${entry.id} · ${entry.completions.length} completions`))],
      detail: (entry) => [box("Prompt", el("small", {}, entry.id), block(entry.prompt)),
        el("div", { class: "pair" }, entry.completions.map((one) => completion(one, text)))],
      chosen: () => {},
    });
    const input = search("", (filter) => view.fill(entries.filter((entry) => matches(entry.search, filter))));
    const sets = explorer.scale.trainsets.map((set) => [set.name, set.title]);
    explorer.show(
      el("div", { class: "head" }, el("h2", {}, `Groups of ${chunk.title}`), select("Training set", sets, name, (to) => explorer.go("training", to))),
      el("div", { class: "bar" }, input, el("p", { class: "note" },
        `${entries.length} of ${chunk.total} groups. Left of each: its largest reward minus its smallest; a group of equal rewards teaches GDPO nothing.`)),
      view.node);
    view.fill(entries);
  }

  explorer.views.items = { title: null, under: "tables", draw, escape: () => escape() };
  explorer.views.training = { title: "Groups", draw: drawTraining, escape: () => false };
})();
