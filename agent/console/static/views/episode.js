// One episode: what was asked, who answered and why, and System 2's tree. Everything said is shown as text.

import { badge, facts, h } from "../dom.js";
import { count, fixed, percent, seconds, when } from "../format.js";

export function detail({ episode, audits }) {
  const { ask, draft, decision, deliberation } = episode;
  return h("div", { class: "stack scroll tall" },
    h("p", {}, [badge(decision.system === "system1" ? "System 1" : "System 2", decision.system), " ", ask.heldout ? badge("held out") : "", " ",
      h("span", { class: "note" }, decision.reason)]),
    h("div", {}, h("h3", {}, "Asked"), ask.messages.map(message)),
    h("div", {}, h("h3", {}, "Reply"), said(episode.reply, decision.system === "system1" ? "from1" : "from2")),
    draft ? h("div", {}, h("h3", {}, "System 1's draft"), said(draft.completion.text, "from1")) : null,
    facts([["Episode", h("code", {}, ask.id)], ["Asked", `${when(ask.asked_at)} by ${ask.source}`], ["Skill", `${ask.skill}, ${ask.answer_type}`],
      ["Adapter", episode.adapter ?? "the base"], ["Confidence", draft ? `${fixed(draft.confidence, 3)}, threshold ${fixed(decision.threshold, 3)}` : "–"],
      ["Chance of System 2", percent(decision.propensity, 1)], ["Spent", `${count(episode.tokens)} tokens, ${seconds(episode.seconds)}`],
      ["Signals", draft ? signals(draft.signals) : ""]]),
    deliberation ? thought("System 2", deliberation) : null,
    audits.map((audit) => thought(`Audit at ${when(audit.audited_at)}: ${audit.agrees ? "agrees" : "disagrees"}`, audit.deliberation)));
}

function message(one) {
  const text = typeof one.content === "string" ? one.content : JSON.stringify(one.content, null, 1);
  return h("div", { class: "quote" }, h("span", { class: "note" }, `${one.role}: `), text);
}

const said = (text, kind) => h("div", { class: `quote ${kind}` }, text || "(nothing)");

function signals(all) {
  const told = [["log-prob", all.logprob_sum], ["lowest", all.logprob_min], ["margin", all.first_margin], ["novelty", all.novelty], ["agreement", all.agreement]];
  return told.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => `${name} ${fixed(value)}`).join(", ");
}

/** The tree of inner calls, then the votes. */
function thought(heading, deliberation) {
  const roots = deliberation.calls.filter((call) => !call.parents.length);
  return h("div", {}, h("h3", {}, heading),
    h("p", { class: "note" }, `${deliberation.method}: ${deliberation.calls.length === 1 ? "1 call" : `${deliberation.calls.length} calls`}, ${count(deliberation.tokens)} tokens, ${seconds(deliberation.seconds)}`),
    h("ul", { class: "tree" }, roots.map((call) => branch(call, deliberation))), votes(deliberation.verdict));
}

/** A call hangs below the last call whose text its prompt contains, as on the command line. */
function branch(call, deliberation) {
  const below = deliberation.calls.filter((other) => other.parents.at(-1) === call.id);
  const tokens = call.completions.reduce((sum, one) => sum + one.completion_tokens, 0);
  const from = call.parents.length > 1 ? `, from ${call.parents.map((id) => `#${id}`).join(", ")}` : "";
  return h("li", {}, h("details", { open: !call.parents.length },
    h("summary", {}, `#${call.id} ${call.stage} `, h("span", { class: "note" }, `${call.completions.length === 1 ? "1 sample" : `${call.completions.length} samples`}, ${count(tokens)} tokens${from}`)),
    h("details", {}, h("summary", {}, h("span", { class: "note" }, call.messages.length === 1 ? "asked" : `asked (${call.messages.length} messages)`)), call.messages.map(message)),
    call.completions.map((one, sample) => [said(one.text, "from2"), h("p", { class: "note" }, ends(call, sample, one, deliberation.attempts))])),
  below.length ? h("ul", {}, below.map((other) => branch(other, deliberation))) : null);
}

function ends(call, sample, completion, attempts) {
  const votes = attempts.filter((one) => one.call === call.id && one.sample === sample)
    .map((one) => `→ ${one.answer ?? "no answer"}${one.perturbation ? ` (${one.perturbation})` : ""}`);
  return [...(completion.finish_reason === "length" ? ["cut off"] : []), ...votes].join(" · ");
}

function votes(verdict) {
  const rows = Object.entries(verdict.votes).sort((a, b) => b[1] - a[1]);
  const all = rows.reduce((sum, [, n]) => sum + n, 0);
  return h("div", {}, h("h3", {}, ["Votes ", badge(`${verdict.grade}-grade`, verdict.grade)]),
    h("div", { class: "votes" }, rows.map(([answer, n]) => [h("span", { class: answer === verdict.answer ? "good-ink mono" : "mono" }, answer || "no answer"),
      h("meter", { min: 0, max: all, value: n, "aria-label": `${answer || "no answer"}: ${n} of ${all}` }), h("span", { class: "note" }, `${n} of ${all}`)])),
    h("p", { class: "note" }, verdict.reason));
}
