// What the address names is drawn; keys: / filters, Esc closes or goes back, 1 to 6 choose a view, ? lists the keys.
"use strict";

(() => {
  const { el } = explorer;
  const ORDER = ["tables", "fronts", "claims", "figures", "runs", "training"];
  const KEYS = [["/", "filter"], ["Esc", "close, clear the filter, or go back"], ["1 – 6", "a view"],
    ["↑ ↓ ← →", "move between cells, items and figures"], ["Enter", "open"], ["?", "this list"]];
  let drawn = 0;

  async function draw() {
    const [name = "tables", ...parts] = explorer.address();
    const view = explorer.views[name] || explorer.views.tables;
    const tab = view.under || name;
    for (const link of document.querySelectorAll("#tabs a")) {
      if (link.dataset.view === tab) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const open = document.getElementById("dialog");
    if (open.open) open.close();
    try {
      await view.draw(parts);
    } catch (error) {
      explorer.show(el("h2", {}, "This address shows nothing."), el("p", { class: "note" }, error.message));
    }
    drawn += 1;
    document.body.dataset.drawn = String(drawn);
  }

  function help() {
    explorer.dialog("Keys", el("dl", {}, KEYS.flatMap(([key, does]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)])));
  }

  function press(event) {
    const typing = event.target.matches("input, select");
    const open = document.getElementById("dialog").open;
    if (event.ctrlKey || event.metaKey || event.altKey || open) return;
    if (event.key === "Escape") {
      const view = explorer.views[explorer.address()[0] || "tables"];
      if (typing && event.target.value && event.target.type === "search") {
        event.target.value = "";
        event.target.dispatchEvent(new Event("input"));
      } else if (view) view.escape();
      event.preventDefault();
    } else if (typing) return;
    else if (event.key === "/") {
      document.querySelector("#main input[type=search]")?.focus();
      event.preventDefault();
    } else if (event.key === "?") help();
    else if (ORDER[Number(event.key) - 1]) explorer.go(ORDER[Number(event.key) - 1]);
  }

  let queue = Promise.resolve(); // one view after the other: the last address wins

  async function start() {
    explorer.scale = await explorer.need("scale");
    document.getElementById("tabs").append(...ORDER.map((name) =>
      el("a", { href: explorer.hash(name), "data-view": name }, explorer.views[name].title)));
    document.getElementById("help").addEventListener("click", help);
    window.addEventListener("hashchange", () => { queue = queue.then(draw); });
    document.addEventListener("keydown", press);
    await draw();
  }

  start();
})();
