// What happens now: who answers, how much waits, and what the night does.

import { get, post } from "../api.js";
import { axis, bars, Chart, ink, legend, times } from "../chart.js";
import { askWhy, say } from "../dialog.js";
import { badge, facts, h, panel, table } from "../dom.js";
import { bytes, count, fixed, percent, seconds, short, when } from "../format.js";

export const title = "Now";
const EVERY_MS = 2000;
const TRAFFIC_EVERY = 5; // polls
const STAGES = ["curate", "distil", "evaluate", "judge", "promote", "swap"];
const SPANS = [["1", "last hour"], ["24", "last 24 hours"], ["168", "last 7 days"], ["720", "last 30 days"]];

export function open(root, { guarded }) {
  const tiles = h("dl", { class: "tiles" });
  const night = h("div");
  const force = h("div");
  const nights = h("div");
  const span = h("select", { "aria-label": "Span", onchange: () => guarded(traffic) }, SPANS.map(([value, text]) => h("option", { value }, text)));
  span.value = "24";
  const chart = new Chart("Answers over time, by system", 210, options, describe);
  const learn = h("button", { type: "button", onclick: () => guarded(start) }, "Run the night now…");
  let seen = null;
  let polls = 0;

  root.append(tiles, h("div", { class: "columns stretch" },
    panel("Answers", { class: "w8", end: span }, chart.element, legend([["s-one", "System 1, direct"], ["s-two", "System 2, thought through"]])),
    panel("In force", { class: "w4" }, force)),
  h("div", { class: "columns" }, panel("Night", { class: "w4", end: learn }, night), panel("Last nights", { class: "w8" }, nights)));

  function options() {
    return { scales: { x: { time: true, range: () => [seen.since, seen.since + 72 * seen.step_s] }, y: { range: (_, low, high) => [0, Math.max(4, high * 1.08)] } }, cursor: { y: false, points: { show: false } },
      axes: [times(), axis({ size: 46 })],
      series: [{}, { label: "all", stroke: () => ink("two"), fill: () => ink("two"), paths: bars(0.8), points: { show: false }, width: 0 },
        { label: "System 1", stroke: () => ink("one"), fill: () => ink("one"), paths: bars(0.8), points: { show: false }, width: 0 }] };
  }

  function describe(index) {
    const rows = seen?.bins ?? [];
    const sum = (list, key) => list.reduce((total, row) => total + row[key], 0);
    const at = index === null ? rows : rows.filter((row) => row.bin === index);
    const n = sum(at, "n");
    const from = index === null ? "In all" : when(seen.since + index * seen.step_s);
    if (!n) return `${from}: no answers.`;
    return `${from}: ${count(n)} answers, System 1 gave ${percent(sum(at, "system1") / n)} of them, ${fixed(sum(at, "tokens") / n, 0)} tokens and ${seconds(sum(at, "seconds") / n)} per answer.`;
  }

  async function traffic() {
    seen = await get("/api/traffic", { hours: span.value, bins: 72 });
    const x = Array.from({ length: 72 }, (_, i) => seen.since + (i + 0.5) * seen.step_s);
    const all = x.map(() => 0);
    const one = x.map(() => 0);
    for (const row of seen.bins) { all[row.bin] = row.n; one[row.bin] = row.system1; }
    chart.draw([x, all, one]);
  }

  async function poll() {
    if (document.hidden) return;
    const status = await get("/api/status");
    tiles.replaceChildren(...figures(status));
    force.replaceChildren(inForce(status));
    night.replaceChildren(running(status));
    nights.replaceChildren(lastNights(status.night.last.slice(0, 8)));
    learn.disabled = status.night.running;
    if (polls++ % TRAFFIC_EVERY === 0) await traffic();
  }

  async function start() {
    const why = await askWhy({ title: "Run the night now?", yes: "Run it",
      text: "Curates what was agreed on, trains an adapter, examines it, and puts it in force if the gate lets it. Questions are answered meanwhile, more slowly on a small machine." });
    if (why === null) return;
    await post("/api/night", { why });
    say("The night has begun.");
    await poll();
  }

  const again = () => guarded(poll);
  again();
  const timer = setInterval(again, EVERY_MS);
  return { stop() { clearInterval(timer); chart.stop(); } };
}

function tile(name, value, under, kind = "") {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", { class: kind }, value), h("p", { class: "under", title: under }, under));
}

function figures(status) {
  const one = status.memory.system1 ?? 0;
  const asked = one + (status.memory.system2 ?? 0);
  const waiting = status.queues;
  const mark = h("i", { class: `dot ${status.engine.healthy ? "good" : "bad"}` });
  return [
    tile("Answers", count(asked), `${bytes(status.memory.bytes)} on disk`),
    tile("Share of System 1", asked ? percent(one / asked, 1) : "–", `${count(one)} answered directly`),
    tile("Under way", `${waiting.system1} + ${waiting.system2}`, "System 1 + System 2"),
    tile("Audits", count(status.memory.audits), `${waiting.audits} waiting`),
    tile("Engine", [mark, status.engine.state], status.engine.healthy ? `up ${seconds(status.uptime_s)}` : "does not answer", "small"),
    tile("Live adapter", status.adapter ? short(status.adapter) : "the base", status.adapter ?? status.model, "small"),
    tile("Next night", status.night.running ? "running" : when(status.next_night), status.night.running ? `since ${when(status.night.last[0]?.started_at)}` : status.next_night ? "if enough waits to be learnt" : "not scheduled", "small"),
  ];
}

function inForce(status) {
  const own = Object.entries(status.in_force).filter(([, one]) => one);
  return h("div", { class: "stack" }, facts([
    ["Adapter", status.adapter ?? "none, the base answers"], ["Base", h("span", { class: "mono" }, status.model)],
    ["Calibration", status.calibration], ["Engine check", status.mixing],
    ["Deliberate", status.deliberate.join(", ")]]),
  table([["Threshold for", ([skill, one]) => [skill === "*" ? "every other skill" : skill, h("p", { class: "note" }, one.says)]],
    ["System 1 from", ([, one]) => (one.value === null ? "never" : fixed(one.value, 3)), "n"]], own,
    { empty: "No threshold is set: System 2 answers what it can.", label: "Thresholds in force" }));
}

function running(status) {
  const { progress } = status.night;
  if (!status.night.running) {
    return facts([["State", "resting"], ["Last said", progress.said], ["Next", when(status.next_night)]]);
  }
  const at = STAGES.indexOf(progress.stage);
  const stages = h("ol", { class: "stages" }, STAGES.map((stage, i) => h("li", { class: i < at ? "done" : i === at ? "now" : "" }, stage)));
  return h("div", {}, stages, h("progress", { max: String(progress.total || 1), value: progress.done, "aria-label": progress.stage }),
    h("p", { class: "note" }, `${progress.stage}: ${progress.said} (${count(progress.done)} of ${count(progress.total)}, ${seconds(Date.now() / 1000 - progress.since)})`));
}

function lastNights(rows) {
  return table([["Began", (n) => when(n.started_at), "whole"], ["Took", (n) => seconds(n.finished_at ? n.finished_at - n.started_at : null), "n"],
    ["Outcome", (n) => badge(n.outcome)], ["Adapter", (n) => (n.adapter ? h("a", { href: `#/adapters/${n.adapter}` }, short(n.adapter)) : ""), "whole"],
    ["Reason", (n) => n.report?.reason || n.reason]], rows, { empty: "No night has run yet.", label: "Last nights" });
}
