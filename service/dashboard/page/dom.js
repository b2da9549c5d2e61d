// Elements are built, never parsed: text from logs can only ever become text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. Attributes "on…" are listeners; children are nodes or texts. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** An element whose width is a share of its parent's; style attributes are forbidden here. */
export function wide(node, share) {
  node.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return node;
}

export function tall(node, share) {
  node.style.height = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return node;
}

const drawn = new WeakMap();

/** Put new content into a node if the data it is drawn from, or the node's width, changed. */
export function redraw(node, data, draw) {
  const key = JSON.stringify(data) + node.clientWidth;
  if (drawn.get(node) === key) return;
  // What has the focus must not be taken away under somebody's fingers.
  if (drawn.has(node) && node.contains(document.activeElement)) return;
  drawn.set(node, key);
  node.replaceChildren(...[draw()].flat(3).filter(Boolean));
}

/** A table. columns: [{title, number, cell(row)}]; a caption for those who cannot see it. */
export function table(caption, columns, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((column) =>
        h("th", { scope: "col", class: column.number ? "number" : null }, column.title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column) =>
        h("td", { class: [column.number ? "number" : "", column.wrap ? "wrap" : ""].join(" ").trim() || null }, column.cell(row))))))));
}

/** A panel with a heading of its own. */
export function panel(id, title, size, note, ...content) {
  return h("section", { class: `panel ${size ?? ""}`.trim(), id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title), note ? h("p", { class: "note" }, note) : null, content);
}
