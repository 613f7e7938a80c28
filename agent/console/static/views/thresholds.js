// Where System 1 is trusted: what any threshold would have done with the log, put one in force, take it back.

import { get, post } from "../api.js";
import { ask, askWhy, say } from "../dialog.js";
import { badge, h, options, panel, table } from "../dom.js";
import { fixed, percent, short, when } from "../format.js";
import { curves } from "./curves.js";
import { judgement, readout } from "./readout.js";

export const title = "Thresholds";

export function open(root, { guarded }) {
  const state = { set: null, found: null, at: 0.9, from: 0, turn: 0, replaying: false };
  const skill = h("select", { "aria-label": "Skill", onchange: () => guarded(replay) });
  const adapter = h("select", { "aria-label": "Log of", onchange: () => guarded(replay) });
  const most = h("input", { type: "number", min: 0.5, max: 50, step: 0.5, "aria-label": "Disagreement at most, percent", onchange: () => guarded(replay) });
  const sure = h("input", { type: "number", min: 51, max: 99.9, step: 1, "aria-label": "with confidence, percent", onchange: () => guarded(replay) });
  const slider = h("input", { type: "range", id: "threshold", min: 0, max: 1, step: 0.005, "aria-label": "Threshold", oninput: () => move(Number(slider.value)) });
  const exact = h("input", { type: "number", id: "exact", min: 0, max: 1, step: 0.005, "aria-label": "Threshold, as a number", onchange: () => move(Number(exact.value)) });
  const apply = h("button", { type: "button", class: "main", id: "apply", onclick: () => guarded(put) }, "Apply…");
  const undo = h("button", { type: "button", id: "undo", onclick: () => guarded(takeBack) }, "Undo…");
  const told = h("div", { id: "readout" });
  const advice = h("div", { class: "stack" });
  const history = h("div", { class: "scroll" });
  const charts = curves(state, (value) => move(value));

  root.append(
    h("section", { class: "panel fields" }, h("label", {}, "Skill", skill), h("label", {}, "Log of", adapter),
      h("label", {}, "Disagreement at most", most, "%"), h("label", {}, "with confidence", sure, "%")),
    h("div", { class: "columns stretch" },
      panel("What each threshold would have done", { class: "w8", note: "replayed from the log, weighted by each answer's chance of an audit" },
        charts.element, h("div", { class: "under-plot" }, slider),
        h("div", { class: "fields" }, h("label", {}, "Threshold", exact), h("span", { class: "note" }, "drag, click a curve, or use the arrow keys"))),
      h("div", { class: "w4 stack" }, panel("At this threshold", {}, told, h("div", { class: "fields" }, apply, undo)), panel("Advice", {}, advice))),
    panel("History", { note: "every change, with who, when and why" }, history));

  async function load() {
    state.set = await get("/api/thresholds");
    const { adapters } = await get("/api/automaticity");
    const live = state.set.adapter ?? "base";
    skill.replaceChildren(...options([["", "all skills"], ...state.set.skills.map((name) => [name, name])], skill.value));
    const names = adapters.map((one) => one.name ?? "base").reverse();
    adapter.replaceChildren(...options(names.map((name) => [name, name === live ? `${name} (live)` : name]), adapter.value || live));
    settle();
  }

  async function replay() {
    const goal = most.value && sure.value ? { max_disagreement: Number(most.value) / 100, confidence: Number(sure.value) / 100 } : {};
    if (!state.found) told.replaceChildren(h("p", { class: "note" }, "Replaying the log…"));
    const turn = ++state.turn;
    state.replaying = true; // what is shown belongs to another choice until the reply is here
    settle();
    const found = await get("/api/whatif", { skill: skill.value, adapter: adapter.value, ...goal });
    if (turn !== state.turn) return; // another choice was made meanwhile: its reply counts
    state.found = found;
    state.replaying = false;
    most.value = String(+(100 * state.found.goal.max_disagreement).toFixed(2)); // the settings' goal, until another is given
    sure.value = String(+(100 * state.found.goal.confidence).toFixed(2));
    look((state.found.points.find((p) => p.threshold >= 0.5)?.escalated ?? 1) < 0.1 ? 0.5 : 0);
    advise();
    move(state.found.in_force?.value ?? state.found.recommendation?.threshold ?? 0.9);
  }

  /** Show the curves from a threshold on; where little happens below a half, only the upper half. */
  function look(from) {
    state.from = from;
    slider.min = String(from);
    charts.draw();
  }

  /** The slider's place: charts, readout and buttons follow. */
  function move(value) {
    if (!(value >= 0 && value <= 1) || !state.found) return;
    if (value < state.from) look(0);
    state.at = value;
    slider.value = exact.value = String(value);
    slider.setAttribute("aria-valuetext", `${fixed(value, 3)}`);
    charts.mark();
    told.replaceChildren(readout(state));
    settle();
  }

  function settle() {
    const isLive = state.found?.live ?? false;
    apply.disabled = !isLive || state.replaying;
    apply.title = state.replaying ? "the log is being replayed" : isLive ? "" : "thresholds belong to an adapter version; this one is not live";
    const last = undoable();
    undo.disabled = !last;
    undo.title = last ? `takes back ${named(last)}` : "nobody set a threshold by hand";
    if (state.set) history.replaceChildren(changes(state.set.history));
  }

  function advise() {
    const { recommendation: found, certificate, in_force: now } = state.found;
    const use = (value) => (value === null || value === undefined ? null
      : h("button", { type: "button", onclick: () => move(value) }, `Look at ${fixed(value, 3)}`));
    advice.replaceChildren(
      h("div", { id: "in-force" }, h("h3", {}, "In force"), h("p", {}, now?.says ?? "No threshold was set."),
        now?.when ? h("p", { class: "note" }, `Decided by ${now.who}, ${when(now.when)}: ${now.why}`) : null),
      h("div", {}, h("h3", {}, "Estimated"), h("p", {}, found?.why ?? ""),
        state.found.stopped ? h("p", { class: "note" }, state.found.stopped.says) : null, use(found?.threshold)),
      h("div", {}, h("h3", {}, ["Certified ", certificate.threshold === null ? badge("no", "bad") : badge("yes", "good")]),
        h("p", {}, certificate.why), use(certificate.threshold)));
  }

  async function put() {
    const { at: value, found } = state; // all that is sent belongs to the curve that was looked at
    const what = found.skill || "every skill without a threshold of its own";
    const before = found.in_force;
    const why = await askWhy({ title: `Trust System 1 from ${fixed(value, 3)}?`, yes: "Apply",
      text: `For ${what}, under ${found.adapter ?? "the base"}, instead of ${before?.value == null ? "none" : fixed(before.value, 3)}. ${judgement(state).text} It takes effect with the next request and can be undone.` });
    if (why === null) return;
    const { certificate, goal } = found;
    const certified = certificate.threshold !== null && Math.abs(certificate.threshold - value) < 1e-9;
    try {
      await post("/api/threshold", { skill: found.skill, adapter: found.adapter ?? "base", value, why,
        max_disagreement: goal.max_disagreement, certificate: certified ? { ...certificate, steps: [] } : null });
    } catch (error) {
      await refresh(); // another adapter may be live by now
      throw error;
    }
    say(`System 1 now answers ${found.skill || "all skills"} from ${fixed(value, 3)}.`);
    await refresh();
  }

  /** What an undo would take back: of the skill chosen, or where none is the newest of any. */
  function undoable() {
    return state.set?.undo[skill.value || "*"];
  }

  async function takeBack() {
    const last = undoable();
    const yes = await ask({ title: `Take back ${named(last)}?`, yes: "Undo",
      text: `Set by ${last.who} at ${when(last.when)}: “${last.why}”. What it replaced is in force again, at once.` });
    if (!yes) return;
    const done = await post("/api/threshold/undo", { why: "undone in the console", skill: last.skill });
    say(`Taken back; ${done.skill ?? "all skills"}: ${done.now === null ? "no threshold" : fixed(done.now, 3)}.`);
    await refresh();
  }

  async function refresh() {
    await load();
    await replay();
  }

  guarded(refresh);
  return { stop() { charts.stop(); } };
}

const named = (change) => `${change.skill ?? "all skills"} at ${fixed(change.value, 3)}`;

function changes(rows) {
  return table([["When", (c) => when(c.when)], ["Skill", (c) => c.skill ?? "all"], ["Adapter", (c) => short(c.adapter)],
    ["From", (c) => (c.value === null ? "never" : fixed(c.value, 3)), "n"], ["Who", (c) => c.who], ["Why", (c) => c.why],
    ["", (c) => (c.undone_at ? badge(`undone ${when(c.undone_at)}`) : c.certificate?.threshold ? badge("certified", "good") : "")]],
  rows, { empty: "No threshold was ever set.", label: "History of thresholds" });
}
