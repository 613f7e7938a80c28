// What the threshold under the slider would have done, beside the one in force.

import { h } from "../dom.js";
import { count, fixed, percent, points, seconds } from "../format.js";

export function readout(state) {
  const there = nearest(state.found.points, state.at);
  const now = state.found.in_force?.value ?? null; // null: System 2 alone, or nothing was set
  const before = now === null ? null : nearest(state.found.points, now);
  const rows = [
    ["Answered directly", (p) => percent(1 - p.escalated, 1), (p) => 1 - p.escalated, points],
    ["Contradicted", (p) => percent(p.disagreement, 1), (p) => p.disagreement, points, true],
    ["95 % interval", (p) => (p.disagreement === null ? "–" : `${(100 * p.low).toFixed(1)}–${percent(p.high, 1)}`)],
    ["Tokens each", (p) => fixed(p.tokens, 1), (p) => p.tokens, signed, true],
    ["Cost, relative", (p) => percent(p.cost), (p) => p.cost, points, true],
    ["Time each", (p) => seconds(p.seconds), (p) => p.seconds, (by) => `${by < 0 ? "−" : "+"}${seconds(Math.abs(by))}`, true],
    ["Audits (worth)", (p) => `${count(p.audits)} (${count(p.effective)})`],
  ];
  const head = h("tr", {}, h("th", {}, ""), h("th", { class: "n", scope: "col" }, `Here ${fixed(state.at, 3)}`),
    h("th", { class: "n", scope: "col" }, before ? `Now ${fixed(now, 3)}` : "Now"), h("th", { class: "n", scope: "col" }, "Change"));
  const body = rows.map(([name, text, number, say, lower]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "n" }, text(there)),
    h("td", { class: "n" }, before ? text(before) : "–"), h("td", { class: "n" }, change(there, before, number, say, lower))));
  return h("div", {}, h("table", { class: "compact", "aria-label": "What this threshold would have done" }, h("thead", {}, head), h("tbody", {}, body)), h("p", { class: `note ${judgement(state).kind}` }, judgement(state).text));
}

function change(there, before, number, say, lower = false) {
  if (!before || !number || number(there) === null || number(before) === null) return "";
  const by = number(there) - number(before);
  if (Math.abs(by) < 5e-5) return "";
  const kind = by < 0 === lower ? "good-ink" : "bad-ink";
  return h("span", { class: kind }, say(by));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;

/** What the log says of the threshold against the goal: { text, kind }. */
export function judgement(state) {
  const there = nearest(state.found.points, state.at);
  const { goal } = state.found;
  if (there.out_of_support) return { text: `Out of support: ${there.out_of_support}`, kind: "" };
  if (there.disagreement === null) return { text: "Nothing would be answered directly.", kind: "" };
  const within = there.upper <= goal.max_disagreement;
  const text = `At confidence ${percent(goal.confidence)} System 2 contradicts at most ${percent(there.upper, 1)}: ${within ? "within" : "above"} the goal of ${percent(goal.max_disagreement, 1)}.`;
  return { text, kind: within ? "good-ink" : "bad-ink" };
}

export function nearest(all, value) {
  return all.reduce((best, one) => (Math.abs(one.threshold - value) < Math.abs(best.threshold - value) ? one : best), all[0]);
}
