// What was asked and answered: a list with filters, and one episode with every inner call of System 2.

import { get } from "../api.js";
import { badge, h, options, panel, table } from "../dom.js";
import { fixed, seconds, when } from "../format.js";
import { detail } from "./episode.js";

export const title = "Episodes";
const PAGE = 50;

export function open(root, { rest, guarded }) {
  const state = { rows: [], more: false, chosen: rest };
  const fresh = () => guarded(() => list(false));
  const search = h("input", { type: "search", "aria-label": "Search", placeholder: "anything that was said", onchange: fresh });
  const skill = h("select", { "aria-label": "Skill", onchange: fresh });
  const system = h("select", { "aria-label": "Answered by", onchange: fresh }, options([["", "either"], ["system1", "System 1"], ["system2", "System 2"]], ""));
  const source = h("input", { type: "text", "aria-label": "Source", placeholder: "anybody", size: 12, onchange: fresh });
  const again = h("button", { type: "button", onclick: fresh }, "Refresh");
  const body = h("div", { class: "scroll tall" });
  const side = panel("Episode", { class: "w5" }, h("p", { class: "empty" }, "Choose an episode: Enter or a click."));
  root.append(h("section", { class: "panel fields" }, h("label", { class: "grow" }, "Search", search), h("label", {}, "Skill", skill),
    h("label", {}, "Answered by", system), h("label", {}, "Source", source), again),
  h("div", { class: "columns" }, h("section", { class: "panel w7", "aria-label": "Episodes" }, body), side));

  async function list(older) {
    const after = older ? state.rows.at(-1)?.id : null;
    const found = await get("/api/episodes", { text: search.value, skill: skill.value, system: system.value, source: source.value, limit: PAGE, after });
    state.rows = older ? [...state.rows, ...found] : found;
    state.more = found.length === PAGE;
    draw();
  }

  function draw() {
    const more = state.more ? h("button", { type: "button", onclick: () => guarded(() => list(true)) }, "Older") : null;
    body.replaceChildren(table([
      ["When", (e) => h("a", { href: `#/episodes/${encodeURIComponent(e.id)}`, "aria-label": `${when(e.asked_at)}: ${e.question}` }, when(e.asked_at))],
      ["Skill", (e) => e.skill], ["Question", (e) => e.question, "cut wide"], ["Reply", (e) => e.reply, "cut"], ["By", (e) => badge(e.system === "system1" ? "1" : "2", e.system)],
      ["Sure", (e) => fixed(e.confidence), "n"], ["Tokens", (e) => e.tokens, "n"], ["Time", (e) => seconds(e.seconds), "n"],
    ], state.rows, { row: attributes, empty: "No episode fits.", label: "Episodes, the newest first" }), more ?? "");
  }

  function attributes(e) {
    return { class: "pick", "aria-selected": String(e.id === state.chosen), onclick: () => { location.hash = `#/episodes/${encodeURIComponent(e.id)}`; } };
  }

  async function show(id) {
    state.chosen = id;
    for (const link of body.querySelectorAll("tbody a")) {
      link.closest("tr").setAttribute("aria-selected", String(link.getAttribute("href") === `#/episodes/${encodeURIComponent(id ?? "")}`));
    }
    if (!id) return;
    const found = await get(`/api/episodes/${encodeURIComponent(id)}`);
    side.replaceChildren(side.firstChild, detail(found));
  }

  guarded(async () => {
    const { skills, observed } = await get("/api/thresholds");
    skill.replaceChildren(...options([["", "any"], ...[...skills, ...observed].map((name) => [name, name]), ["unknown", "unknown"]], ""));
    await list(false);
    await show(rest);
  });
  return { stop() {}, to: (id) => guarded(() => show(id)) };
}

