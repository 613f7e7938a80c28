// How automatic each skill has become, over adapter versions.

import { get, post } from "../api.js";
import { axis, Chart, COLOURS, line, shares } from "../chart.js";
import { askWhy, say } from "../dialog.js";
import { badge, h, panel, table } from "../dom.js";
import { count, fixed, percent, points, seconds, short } from "../format.js";

export const title = "Skills";

export function open(root, { guarded }) {
  const state = { seen: null, skills: [] };
  const examined = new Chart("Agreement with System 2 on held-out questions, per skill over adapter versions", 250,
    () => options(state, true), (i) => describe(state, i, score));
  const direct = new Chart("Share of answers given by System 1, per skill over adapter versions", 250,
    () => options(state, false), (i) => describe(state, i, share));
  const list = panel("Skills", {});
  const matrix = panel("Forgetting matrix", { note: "agreement on held-out questions after each adapter; below the first row's is forgotten" });
  root.append(h("div", { class: "columns" },
    panel("Agreement on held-out questions", { class: "w6", note: "what an adapter alone gets right, as System 2 would" }, examined.element),
    panel("Share of System 1", { class: "w6", note: "what people were answered directly" }, direct.element)), list, matrix);

  async function load() {
    state.seen = await get("/api/automaticity");
    state.skills = state.seen.skills.filter((one) => Object.keys(one.examined).length || Object.keys(one.served).length);
    const x = state.seen.adapters.map((_, i) => i);
    examined.draw([x, ...state.skills.map((skill) => state.seen.adapters.map((a, i) => score(skill, a, i, state)))]);
    direct.draw([x, ...state.skills.map((skill) => state.seen.adapters.map((a) => share(skill, a)))]);
    list.replaceChildren(list.firstChild, skillTable(state));
    matrix.replaceChildren(matrix.firstChild, matrixTable(state), sums(state.seen.forgetting));
  }
  state.release = (skill) => guarded(async () => {
    const why = await askWhy({ title: `Let ${skill} be tried again?`, yes: "Release",
      text: "It was found not to distil. Released, System 1 may answer it where it is sure, and the nights learn it again." });
    if (why === null) return;
    await post(`/api/skills/${encodeURIComponent(skill)}/release`, { why });
    say(`${skill} is practising now.`);
    await load();
  });
  guarded(load);
  const timer = setInterval(() => document.hidden || guarded(load), 15000);
  return { stop() { clearInterval(timer); examined.stop(); direct.stop(); } };
}

/** The examined agreement; the base's is what the first examination found before. */
function score(skill, adapter, index, state) {
  if (adapter.name) return skill.examined[adapter.name]?.after ?? null;
  const first = state?.seen.adapters.map((a) => skill.examined[a.name]).find(Boolean);
  return first?.before ?? null;
}

function share(skill, adapter) {
  return skill.served[adapter.name ?? ""]?.system1_share ?? null;
}

function options(state, whole) {
  const names = state.seen.adapters.map((one) => short(one.name));
  const pad = names.length > 1 ? 0.15 : 1;
  return {
    scales: { x: { time: false, range: [-pad, names.length - 1 + pad] }, y: { range: [0, 1] } },
    cursor: { y: false, focus: { prox: 24 } }, focus: { alpha: 0.35 },
    axes: [axis({ splits: () => names.map((_, i) => i), values: (_, at) => at.map((i) => names[i]) }), shares()],
    series: [{}, ...state.skills.map((skill, i) => line(skill.skill, COLOURS[i % COLOURS.length],
      { spanGaps: true, points: { show: true, size: whole ? 7 : 6 } }))],
  };
}

function describe(state, index, value) {
  if (!state.seen) return "";
  const at = index ?? state.seen.adapters.length - 1;
  const adapter = state.seen.adapters[at];
  const told = state.skills.map((skill) => [skill.skill, value(skill, adapter, at, state)]).filter(([, v]) => v !== null);
  return `${adapter.name ?? "base"}: ${told.map(([name, v]) => `${name} ${percent(v)}`).join(", ") || "not measured"}`;
}

function skillTable(state) {
  const live = state.seen.adapters.findIndex((one) => one.status === "live");
  const adapter = state.seen.adapters[Math.max(0, live)];
  const before = (skill) => score(skill, state.seen.adapters[0], 0, state);
  const now = (skill) => score(skill, adapter, live, state);
  const served = (skill) => skill.served[adapter.name ?? ""];
  const range = (one) => (one?.agreement === null || one?.agreement === undefined ? "–"
    : `${percent(one.agreement)} (${fixed(100 * one.agreement_low, 0)}–${fixed(100 * one.agreement_high, 0)})`);
  return table([
    ["Skill", (one) => [h("i", { class: `swatch k${1 + (state.skills.indexOf(one) % COLOURS.length)}` }), one.skill]],
    ["State", (one) => badge(one.state)],
    ["System 1", (one) => percent(share(one, adapter)), "n"],
    ["Held out", (one) => percent(now(one)), "n"],
    ["Since the base", (one) => delta(now(one), before(one)), "n"],
    ["Audits agree", (one) => range(served(one)), "n"],
    ["Audits", (one) => count(served(one)?.audits), "n"],
    ["Answers", (one) => count(served(one)?.n), "n"],
    ["Lessons", (one) => count(served(one)?.lessons), "n"],
    ["Tokens", (one) => fixed(served(one)?.tokens, 0), "n"],
    ["Time", (one) => seconds(served(one)?.seconds), "n"],
    ["Why", (one) => [h("span", { class: "note" }, one.reason), " ", one.state === "deliberate"
      ? h("button", { type: "button", class: "small", onclick: () => state.release(one.skill) }, "Release…") : ""]],
  ], state.seen.skills.map((one) => state.skills.find((s) => s.skill === one.skill) ?? one),
  { label: `Skills under ${adapter.name ?? "the base"}`, empty: "No skill is named in the settings." });
}

function delta(now, before) {
  if (now === null || before === null) return "–";
  return h("span", { class: now > before ? "good-ink" : now < before ? "bad-ink" : "" }, points(now - before, 0));
}

function matrixTable(state) {
  const rows = state.seen.adapters.filter((one) => one.name === null || state.skills.some((skill) => skill.examined[one.name]));
  if (rows.length < 2) return h("p", { class: "empty" }, "No adapter has been examined yet.");
  return table([["After", (one) => (one.name ? h("a", { href: `#/adapters/${one.name}` }, one.name) : "the base")], ["", (one) => badge(one.status)],
    ...state.skills.map((skill) => [skill.skill, (one) => percent(score(skill, one, 0, state)), "n"])], rows, { label: "Forgetting matrix", kind: "narrow" });
}

function sums(found) {
  if (!found || found.acc === null) return "";
  return h("p", { class: "note" }, `Mean after the last: ${percent(found.acc)}. Backward transfer: ${points(found.backward)}. Forgetting: ${points(found.forgetting)}.`);
}
