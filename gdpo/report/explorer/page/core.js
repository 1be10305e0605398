// Data on demand, elements without markup, addresses and keys. Text of models and data becomes text nodes alone.
"use strict";

const explorer = (() => {
  const loaded = new Map();
  const pending = new Map();

  /** What each script of data calls. */
  function load(name, value) {
    loaded.set(name, value);
  }

  /** The value of data/NAME.js, whose script is added where it is not there yet: a page from disk may fetch no file. */
  function need(name) {
    if (!pending.has(name)) {
      pending.set(name, new Promise((resolve, reject) => {
        const tag = document.createElement("script");
        tag.src = `data/${name.split("/").map(encodeURIComponent).join("/")}.js`;
        tag.onload = () => resolve(loaded.get(name));
        tag.onerror = () => reject(new Error(`data/${name}.js is missing`));
        document.head.append(tag);
      }));
    }
    return pending.get(name);
  }

  /** A function from places to texts of a chunk, of which the pieces that hold `places` are loaded. */
  async function texts(chunk, starts, places) {
    const wanted = new Set(places.map((place) => starts.findLastIndex((start) => start <= place)));
    const pieces = new Map();
    await Promise.all([...wanted].map(async (n) => pieces.set(n, await need(`texts/${chunk}-${n}`))));
    return (place) => {
      const n = starts.findLastIndex((start) => start <= place);
      return pieces.get(n)[place - starts[n]];
    };
  }

  // Control characters, marks that turn the direction of text, and halves of characters: shown as escapes.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Cs}/gu;

  function visible(text) {
    return String(text).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  }

  /** An element; of `options`, `on` has listeners, `style` properties, and all else are attributes. */
  function el(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(options)) {
      if (key === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      else if (key === "style") Object.assign(node.style, value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(visible(child)));
    }
    return node;
  }

  function select(label, options, value, change) {
    const node = el("select", { "aria-label": label, on: { change: () => change(node.value) } },
      options.map(([key, title]) => el("option", { value: key, selected: String(key) === String(value) }, title)));
    return el("label", {}, label, node);
  }

  function search(value, input) {
    const node = el("input", { type: "search", placeholder: "filter  /", "aria-label": "Filter", value,
      on: { input: () => input(node.value) } });
    return node;
  }

  /** Buttons of which one is pressed: [[key, title, count], ...]. */
  function chips(label, options, value, change) {
    const group = el("div", { class: "chips", role: "group", "aria-label": label });
    for (const [key, title, count] of options) {
      group.append(el("button", { type: "button", class: "chip", "data-key": key, "aria-pressed": String(key === value),
        on: { click: () => change(key) } }, title, count === undefined ? null : el("b", {}, count)));
    }
    return group;
  }

  function matches(text, filter) {
    const low = text.toLowerCase();
    return filter.toLowerCase().split(/\s+/).every((word) => low.includes(word));
  }

  /** Digits behind the point, and a minus sign that is none before a zero. */
  const number = (value, digits = 1) => {
    const text = value.toFixed(digits);
    return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
  };
  const signed = (value, digits = 1) => (Number(value.toFixed(digits)) > 0 ? "+" : "") + number(value, digits);
  const range = (low, high) => `[${number(low)}, ${number(high)}]`;

  function address() {
    return location.hash.slice(1).split("/").filter((part) => part !== "").map(decodeURIComponent);
  }

  function hash(...parts) {
    return `#${parts.map((part) => encodeURIComponent(part)).join("/")}`;
  }

  function go(...parts) {
    location.hash = hash(...parts);
  }

  /** The address becomes this one, and nothing is drawn anew. */
  function replace(...parts) {
    history.replaceState(null, "", hash(...parts));
  }

  function show(...nodes) {
    document.getElementById("main").replaceChildren(...nodes.filter(Boolean));
  }

  function dialog(title, ...nodes) {
    const node = document.getElementById("dialog");
    const close = el("button", { type: "button", class: "quiet", on: { click: () => node.close() } }, "Close ", el("kbd", {}, "Esc"));
    node.replaceChildren(el("div", { class: "split" }, el("h2", { id: "dialog-title" }, title), close), ...nodes);
    if (!node.open) node.showModal();
    close.focus(); // what had it may be gone
    return node;
  }

  const views = {}; // name -> {title, draw(parts), escape()}
  return { load, need, texts, visible, el, select, search, chips, matches, number, signed, range, address, hash, go,
    replace, show, dialog, views };
})();
