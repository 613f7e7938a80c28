// The daemon's JSON. Where keys exist the browser itself asks for one (as a password) before it shows the page, and
// sends it with every request; a key given here, for this tab, goes before it. State changes carry the header that no other site's page can send.

import { h } from "./dom.js";
import { ask } from "./dialog.js";

const KEY = "secondnature.key"; // kept for this tab alone
let asking = null; // one question for a key at a time

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path, query = {}) => send("GET", `${path}${encoded(query)}`);
export const post = (path, body = {}) => send("POST", path, body);

function encoded(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function send(method, path, body) {
  const answer = await once(method, path, body);
  if (answer.status !== 401) return read(answer);
  await haveKey();
  return read(await once(method, path, body));
}

function once(method, path, body) {
  const headers = { "x-secondnature": "1" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  return fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
}

async function read(answer) {
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, told.error?.message ?? `the service answered ${answer.status}`);
  return told;
}

/** Ask for an API key, once for all requests that were refused. */
export function haveKey() {
  asking ??= askForKey().finally(() => { asking = null; });
  return asking;
}

/** Take another key for this tab, and draw everything anew with it. */
export async function otherKey() {
  try {
    await haveKey();
    location.reload();
  } catch (error) {
    if (!(error instanceof Refused)) throw error; // nothing was given: all stays as it is
  }
}

async function askForKey() {
  const field = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "sn-…" });
  const given = await ask({
    title: "API key",
    text: "Kept for this tab only, and sent instead of the one that the browser asked for. `secondnature keys create --role operate` makes one; with the role audit one may look, not change.",
    fields: [h("label", {}, "Key", field)],
    yes: "Use this key",
  });
  if (!given || !field.value.trim()) throw new Refused(401, "no API key was given; reload the page to be asked again");
  sessionStorage.setItem(KEY, field.value.trim());
}
