// Elements from plain calls. Texts become text nodes only: nothing that a model or a caller wrote is ever parsed as HTML.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "open", "indeterminate"]);

/** h("p", {class: "note", onclick: f}, "text", child, null): an element. Children may be nested arrays. */
export function h(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** A panel with a heading; `end` stands at the heading's right. */
export function panel(title, given = {}, ...children) {
  const { end, note, ...rest } = given;
  const head = h("div", { class: "bar" }, h("h2", {}, title), note ? h("span", { class: "note" }, note) : null,
    end ? h("span", { class: "end" }, end) : null);
  return h("section", { ...rest, class: `panel ${rest.class ?? ""}` }, head, children);
}

/** A table: columns are [heading, row => cell, class]. `row` may add attributes to each row. */
export function table(columns, rows, { row = () => ({}), kind, empty = "Nothing yet.", label } = {}) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const heads = columns.map(([name, , kind]) => h("th", { scope: "col", class: kind }, name));
  const lines = rows.map((one) => h("tr", row(one), columns.map(([, cell, kind]) => h("td", { class: kind }, cell(one)))));
  return h("table", { "aria-label": label, class: kind }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, lines));
}

export function badge(text, kind = text) {
  return text ? h("span", { class: `badge ${kind}` }, text) : "";
}

export function options(pairs, chosen) {
  return pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
