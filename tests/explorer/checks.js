// Run in the page: each text that is too faint, too small, on top of another or outside of the window, in words.
const [least, smallest, most] = arguments;
const open = document.querySelector("dialog[open]");
const root = open || document.body;
const found = [];

const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const luminance = (rgb) => 0.2126 * channel(rgb[0] / 255) + 0.7152 * channel(rgb[1] / 255) + 0.0722 * channel(rgb[2] / 255);
const parse = (css) => {
  const parts = css.match(/[\d.]+/g)?.map(Number) || [0, 0, 0, 0];
  return parts.length === 3 ? [...parts, 1] : parts;
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));

function behind(node) {
  const layers = [];
  for (let one = node; one; one = one.parentElement) {
    const colour = parse(getComputedStyle(one).backgroundColor);
    if (colour[3] > 0) layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
}

function contrast(css, node) {
  const below = behind(node);
  const [a, b] = [over(parse(css), below), below].map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

/** The part of a rectangle that its scrolling ancestors show; null where there is none. */
function clipped(rect, node) {
  let [left, top, right, bottom] = [rect.left, rect.top, rect.right, rect.bottom];
  for (let one = node; one && one !== document.body; one = one.parentElement) {
    const style = getComputedStyle(one);
    if (style.overflowX === "visible" && style.overflowY === "visible") continue;
    const box = one.getBoundingClientRect();
    [left, top] = [Math.max(left, box.left), Math.max(top, box.top)];
    [right, bottom] = [Math.min(right, box.right), Math.min(bottom, box.bottom)];
  }
  return right - left > 1 && bottom - top > 1 ? { left, top, right, bottom } : null;
}

const boxes = [];
const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode;
  const parent = node.parentElement;
  if (!node.data.trim() || !parent.checkVisibility({ visibilityProperty: true }) || parent.closest("option, script, style, .skip")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  const shown = [...range.getClientRects()].map((rect) => clipped(rect, parent)).filter(Boolean);
  if (!shown.length) continue;
  const style = getComputedStyle(parent);
  const words = node.data.trim().slice(0, 40);
  const ratio = contrast(parent instanceof SVGElement ? style.fill : style.color, parent);
  if (ratio < least) found.push(`contrast ${ratio.toFixed(2)}: ${words}`);
  if (parseFloat(style.fontSize) < smallest) found.push(`size ${style.fontSize}: ${words}`);
  for (const box of shown) {
    if (!open && (box.right > innerWidth + 1 || box.left < -1)) found.push(`outside: ${words}`);
    boxes.push({ ...box, words, node });
  }
}
for (const field of root.querySelectorAll("select, input")) {
  const [style, placeholder] = [getComputedStyle(field), getComputedStyle(field, "::placeholder")];
  for (const css of [style.color, ...(field.placeholder ? [placeholder.color] : [])]) {
    if (contrast(css, field) < least) found.push(`contrast of a field: ${field.ariaLabel}`);
  }
  if (parseFloat(style.fontSize) < smallest) found.push(`size of a field: ${field.ariaLabel}`);
  const box = clipped(field.getBoundingClientRect(), field.parentElement);
  if (box) boxes.push({ ...box, words: `field ${field.ariaLabel}`, node: field });
}
boxes.sort((a, b) => a.top - b.top);
boxes.forEach((one, i) => {
  for (let j = i + 1; j < boxes.length && boxes[j].top < one.bottom - most; j += 1) {
    const other = boxes[j];
    const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    const height = Math.min(one.bottom, other.bottom) - other.top;
    if (one.node !== other.node && width > most && height > most) found.push(`overlap: ${one.words} / ${other.words}`);
  }
});
const page = document.documentElement;
if (page.scrollWidth > innerWidth) found.push(`the page is ${page.scrollWidth} px wide in ${innerWidth}`);
return [...new Set(found)].slice(0, 12);
