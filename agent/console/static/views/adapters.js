// What was learned and decided: every adapter, its gate report, promote and roll back.

import { get, post } from "../api.js";
import { askWhy, say } from "../dialog.js";
import { badge, facts, h, panel, table } from "../dom.js";
import { count, fixed, percent, points, seconds, when } from "../format.js";

export const title = "Adapters";

export function open(root, { rest, guarded }) {
  const state = { rows: [], chosen: rest };
  const back = h("button", { type: "button", id: "rollback", class: "danger", onclick: () => guarded(rollback) }, "Roll back…");
  const list = panel("Adapters", { class: "w5", end: back });
  const side = panel("Gate report", { class: "w7" });
  const head = list.firstChild;
  const title = side.firstChild;
  root.append(h("div", { class: "columns" }, list, side));

  async function load() {
    state.rows = await get("/api/adapters");
    const live = state.rows.find((one) => one.status === "live");
    state.chosen ??= (live ?? state.rows[0])?.name ?? null;
    back.disabled = !live;
    back.title = live ? "" : "the base answers already";
    draw();
    await show(state.chosen);
  }

  function draw() {
    list.replaceChildren(head, table([
      ["Name", (a) => h("a", { class: "mono", href: `#/adapters/${a.name}` }, a.name)], ["Status", (a) => badge(a.status)],
      ["Made", (a) => when(a.created_at)], ["Lessons", (a) => count(a.n_lessons), "n"], ["Training", (a) => seconds(a.train_s), "n"],
    ], state.rows, { row: attributes, label: "Adapters, the newest first", empty: "No night has made an adapter yet." }));
  }

  function attributes(a) {
    return { class: "pick", "aria-selected": String(a.name === state.chosen), onclick: () => { location.hash = `#/adapters/${a.name}`; } };
  }

  async function show(name) {
    if (!name) return side.replaceChildren(title, h("p", { class: "empty" }, "The base answers."));
    state.chosen = name;
    draw();
    const adapter = await get(`/api/adapters/${encodeURIComponent(name)}`);
    side.replaceChildren(title, report(adapter, () => guarded(() => promote(adapter))));
  }

  async function promote(adapter) {
    const why = await askWhy({ title: `Put ${adapter.name} in force?`, yes: "Promote",
      text: `It is ${adapter.status}: ${adapter.reason}. It is loaded beside the live one and read the newest questions' common beginnings, which takes some seconds; requests under way end as they began.` });
    if (why === null) return;
    await changed(await post(`/api/adapters/${encodeURIComponent(adapter.name)}/promote`, { why }));
  }

  async function rollback() {
    const live = state.rows.find((one) => one.status === "live");
    const why = await askWhy({ title: `Take ${live.name} out of force?`, yes: "Roll back", danger: true,
      text: "The adapter that was live before it answers again, or the base where there was none." });
    if (why !== null) await changed(await post("/api/rollback", { why }));
  }

  async function changed(swap) {
    say(`${swap.adapter ?? "The base"} answers now, instead of ${swap.before ?? "the base"}; ${seconds(swap.warm_s + swap.flip_s)}.`);
    await load();
  }

  guarded(load);
  return { stop() {}, to: (name) => guarded(() => show(name)) };
}

function report(adapter, promote) {
  const { evaluation, gate } = adapter.report ?? {};
  const act = h("button", { type: "button", id: "promote", disabled: adapter.status === "live", onclick: promote },
    adapter.status === "live" ? "In force" : "Promote…");
  return h("div", { class: "stack" },
    h("div", { class: "fields" }, h("span", { class: "mono" }, adapter.name), badge(adapter.status), act),
    h("p", {}, gate?.reason ?? adapter.reason),
    gate?.checks?.length ? table([["Check", ([name]) => name], ["", ([, ok]) => badge(ok ? "passed" : "failed", ok ? "good" : "bad")], ["Finding", ([, , text]) => text]],
      gate.checks, { label: "Checks of the gate" }) : null,
    evaluation?.scores?.length ? table([["Skill", (s) => s.skill], ["Questions", (s) => count(s.n), "n"], ["Before", (s) => percent(s.before, 1), "n"],
      ["After", (s) => percent(s.after, 1), "n"], ["Change", (s) => change(s.after - s.before), "n"],
      ["Won", (s) => count(s.won), "n"], ["Lost", (s) => count(s.lost), "n"]],
    evaluation.scores, { label: "Agreement on held-out questions" }) : null,
    facts([["Why", gate && gate.reason !== adapter.reason ? adapter.reason : ""], ["Digest", h("code", {}, adapter.digest)], ["Base", h("code", {}, adapter.base)],
      ["Anchor drift", evaluation?.anchor_drift === null || evaluation?.anchor_drift === undefined ? "" : `${fixed(evaluation.anchor_drift, 3)} nats per token`],
      ["Canaries changed", evaluation?.canaries_changed?.join(", ")], ["Examined in", evaluation ? seconds(evaluation.seconds) : ""],
      ["Made", when(adapter.created_at)]]));
}

function change(by) {
  return h("span", { class: by > 0 ? "good-ink" : by < 0 ? "bad-ink" : "" }, points(by));
}
