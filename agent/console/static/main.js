// The frame: which view is shown, the theme, the keys, and the line at the top that says how the service is.

import { get, otherKey } from "./api.js";
import { ask } from "./dialog.js";
import { h } from "./dom.js";
import { percent, short } from "./format.js";
import * as adapters from "./views/adapters.js";
import * as episodes from "./views/episodes.js";
import * as now from "./views/now.js";
import * as skills from "./views/skills.js";
import * as thresholds from "./views/thresholds.js";

const VIEWS = { now, skills, thresholds, episodes, adapters };
const PULSE_MS = 5000;
const THEMES = ["system", "light", "dark"];
const root = document.getElementById("view");
let shown = null; // the view's handle: { stop(), to(rest)? }
let name = null;

const links = Object.entries(VIEWS).map(([key, view]) => h("a", { href: `#/${key}`, "data-view": key }, view.title));
document.getElementById("nav").append(...links);

async function show() {
  const [key, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const wanted = key in VIEWS ? key : "now";
  if (wanted === name && shown?.to) return shown.to(rest.join("/") || null);
  shown?.stop();
  name = wanted;
  document.title = `${VIEWS[wanted].title} · Second Nature`;
  for (const link of links) link.toggleAttribute("aria-current", link.dataset.view === wanted);
  for (const link of links) if (link.dataset.view === wanted) link.setAttribute("aria-current", "page");
  root.replaceChildren();
  shown = VIEWS[wanted].open(root, { rest: rest.join("/") || null, guarded });
}

/** Run a view's work; a fault is shown at the top until the next success. */
async function guarded(work) {
  const fault = document.getElementById("fault");
  try {
    const value = await work();
    fault.hidden = true;
    return value;
  } catch (error) {
    fault.textContent = error instanceof TypeError && error.message.includes("fetch") ? "The service does not answer; trying again." : error.message;
    fault.hidden = false;
    return undefined;
  }
}

async function pulse() {
  if (document.hidden) return;
  const line = document.getElementById("pulse");
  const status = await guarded(() => get("/api/status"));
  if (!status) return line.replaceChildren(h("i", { class: "dot bad" }), "no answer");
  const asked = (status.memory.system1 ?? 0) + (status.memory.system2 ?? 0);
  const share = asked ? percent((status.memory.system1 ?? 0) / asked) : "–";
  line.replaceChildren(h("i", { class: `dot ${status.engine.healthy ? "good" : "bad"}` }),
    `${short(status.adapter)} answers · System 1 ${share}${status.night.running ? ` · night: ${status.night.progress.stage}` : ""}`);
}

function theme(next) {
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("secondnature.theme", next);
  document.getElementById("theme").textContent = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" }[next];
  document.dispatchEvent(new Event("theme"));
}

const chosen = () => localStorage.getItem("secondnature.theme") ?? "system";
const turn = () => theme(THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length]);

function keys() {
  const rows = [["1 … 5", "the views, from left to right"], ["/", "search the episodes"], ["j  k", "next and previous row of a list"],
    ["T", "light, dark, or as the system"], ["Tab, Enter, ← →", "every control, every slider"], ["Esc", "leave a question unanswered"]];
  const list = h("dl", { class: "facts" }, rows.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]));
  ask({ title: "Keyboard", fields: [list], yes: "Close" });
}

/** Move among the links of the list in view. */
function step(by) {
  const all = [...root.querySelectorAll("tbody a")];
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))].focus();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range]), textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const view = Object.keys(VIEWS)[Number(event.key) - 1];
  if (view) location.hash = `#/${view}`;
  else if (event.key === "t" || event.key === "T") turn();
  else if (event.key === "?") keys();
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "/") {
    event.preventDefault();
    location.hash = "#/episodes";
    setTimeout(() => root.querySelector("input[type=search]")?.focus());
  }
});
document.getElementById("theme").addEventListener("click", turn);
document.getElementById("key").addEventListener("click", otherKey);
document.getElementById("help").addEventListener("click", keys);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); root.focus(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
addEventListener("hashchange", show);
theme(chosen());
show();
pulse();
setInterval(pulse, PULSE_MS);
