// Questions before something changes, and short notes after it.

import { h } from "./dom.js";

/** A modal question. Resolves true on yes; Escape and Cancel are no. */
export function ask({ title, text, fields = [], yes, danger = false, ready = () => true }) {
  return new Promise((resolve) => {
    const confirm = h("button", { type: "button", class: danger ? "danger" : "main" }, yes);
    const cancel = h("button", { type: "button" }, "Cancel");
    const box = h("dialog", { "aria-label": title }, h("h2", {}, title), text ? h("p", { class: "note" }, text) : null,
      fields, h("div", { class: "actions" }, cancel, confirm));
    const end = (answer) => { box.close(); box.remove(); resolve(answer); };
    const check = () => { confirm.disabled = !ready(); };
    confirm.addEventListener("click", () => end(true));
    cancel.addEventListener("click", () => end(false));
    box.addEventListener("cancel", (event) => { event.preventDefault(); end(false); });
    box.addEventListener("input", check);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.tagName === "INPUT" && !confirm.disabled) end(true);
    });
    document.body.append(box);
    check();
    box.showModal();
    box.querySelector("input, textarea")?.focus();
  });
}

/** A question that wants a reason. Resolves to the reason, or null. */
export async function askWhy(given) {
  const why = h("textarea", { maxlength: 500, name: "why" });
  const fields = [...(given.fields ?? []), h("label", {}, "Why, for the record", why)];
  const yes = await ask({ ...given, fields, ready: () => why.value.trim() !== "" });
  return yes ? why.value.trim() : null;
}

/** A note at the corner for some seconds. */
export function say(text) {
  const note = h("p", {}, text);
  document.getElementById("said").append(note);
  setTimeout(() => note.remove(), 6000);
}
