"use strict";
// It reads and shows; there is no request here that changes anything. Every text goes in
// as text, never as markup.
const EVENTS = 50;
const at = id => document.getElementById(id);
const make = (tag, text, cls) => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (cls) element.className = cls;
  return element;
};
const pause = ms => new Promise(done => setTimeout(done, ms));
const moment = text => new Date(text).toLocaleString();

const KEY = "muster token";
let token = sessionStorage.getItem(KEY);
class TokenNeeded extends Error {}
async function ask(path, more = {}, signal = undefined) {
  const headers = token ? { ...more, Authorization: `Bearer ${token}` } : more;
  const response = await fetch(path, { headers, signal });
  if (response.status === 401) throw new TokenNeeded();
  return response;
}
const get = async path => (await ask(path, {}, AbortSignal.timeout(5000))).json();

const COLUMNS = [
  ["Node", member => member.node + (member.self ? " (this node)" : "")],
  ["Status", member => MARKS[member.status] + member.status + (member.draining ? ", draining" : ""),
    member => member.status],
  ["Broker", member => member.broker ? `${MARKS[member.broker.status]}${member.broker.status}` : "",
    member => member.broker ? member.broker.status : ""],
  ["Link", member => member.self ? "" : member.link],
  ["Round trip", member => member.rtt_ms === null ? "" : `${member.rtt_ms.toFixed(2)} ms`],
  ["Role", member => member.role],
  ["Address", member => member.address || ""],
  ["Since", member => moment(member.since)],
  ["Version", member => member.version],
  ["Tags", member => Object.entries(member.tags || {}).map(([k, v]) => `${k}=${v}`).join(", "),
    () => "wide"],
];
// A mark beside each colour, for those who see no colours.
const MARKS = { up: "● ", suspect: "◐ ", down: "○ ", unknown: "– " };

function showMembers(members) {
  at("members").replaceChildren(...members.map(member => {
    const row = make("tr", "");
    row.setAttribute("role", "row");
    row.dataset.node = member.node;
    row.dataset.status = member.status;
    for (const [label, text, cls] of COLUMNS) {
      const shown = text(member);
      const cell = make("td", shown || "–", (cls ? cls(member) : "") + (shown ? "" : " empty"));
      cell.setAttribute("role", "cell");
      cell.dataset.label = label;
      row.append(cell);
    }
    return row;
  }));
}

const SIGNS = {
  itself: ["=", "itself"], connected: ["+", "linked"], idle: [".", "no link needed"],
  none: ["x", "no link"], down: ["-", "down"], unknown: ["", "not known there"],
};
let matrix = null;
function showReach(text) {
  if (text === matrix) return;
  matrix = text;
  const { nodes, rows, left_out } = JSON.parse(text);
  at("reach-section").hidden = nodes.length < 2;
  const head = (text, scope, label) => {
    const cell = make("th", text);
    cell.scope = scope;
    if (label) cell.title = label;
    return cell;
  };
  at("reach-columns").replaceChildren(head("From", "col"),
    ...nodes.map((node, number) => head(String(number + 1), "col", node)));
  at("reach").replaceChildren(...rows.map(({ node, reaches, silent }, number) => {
    const row = make("tr", "");
    row.dataset.from = node;
    row.append(head(`${number + 1} ${node}`, "row"));
    if (silent) {
      const cell = make("td", `? ${silent.text}`, "quiet");
      cell.colSpan = nodes.length;
      row.append(cell);
      return row;
    }
    row.append(...reaches.map((cell, to) => {
      const [sign, words] = SIGNS[cell];
      const shown = make("td", sign, cell);
      shown.title = `${node} to ${nodes[to]}: ${words}`;
      return shown;
    }));
    return row;
  }));
  at("reach-more").textContent = left_out
    ? `${left_out} more members find no place here: this node, who misses a link, and the first by name do.` : "";
}

// Lines that members are asked for are there a moment later.
let again = null;
async function reach() {
  const text = await (await ask("/api/v1/reach", {}, AbortSignal.timeout(5000))).text();
  showReach(text);
  if (text.includes('"waiting"')) again ??= setTimeout(() => { again = null; more(); }, 300);
}
function more() {
  if (!document.hidden && at("login").hidden) reach().catch(() => {});
}

function showDiscovery({ strategy, discovery }) {
  const rows = [
    ["Strategy", strategy + (discovery.enabled ? "" : ", switched off")],
    ["Last answer", discovery.last_success ? moment(discovery.last_success) : "none"],
    ["Names", discovery.nodes.join(", ") || "nobody"],
  ];
  if (discovery.last_error) rows.push(["Error", discovery.last_error, "down"]);
  at("discovery").replaceChildren(...rows.flatMap(([term, text, cls]) =>
    [make("dt", term), make("dd", text, cls)]));
}

function showHealth(health) {
  const failed = health.checks.filter(check => !check.ok);
  const ready = at("ready");
  const text = health.ready
    ? "✓ Ready" : `✗ Not ready: ${failed.map(check => check.reason).join("; ")}`;
  // A screen reader says it again whenever it is written.
  if (ready.textContent !== text) ready.textContent = text;
  ready.className = health.ready ? "up" : "down";
  const item = (check, bad) =>
    make("li", `${check.ok ? "✓" : bad === "down" ? "✗" : "!"} ${check.name}: ${check.reason}`, check.ok ? "" : bad);
  at("checks").replaceChildren(
    ...health.checks.map(check => item(check, "down")),
    ...(health.notices || []).map(check => item(check, "suspect")));
}

async function refresh() {
  try {
    const [cluster, members, health] =
      await Promise.all([get("/api/v1/cluster"), get("/api/v1/members"), get("/readyz?verbose")]);
    if (!members.members) throw new Error(members.message);
    document.title = `${health.ready ? "" : "✗ "}${cluster.self} · muster`;
    at("name").textContent = cluster.self;
    const linked = members.members.filter(member => member.link === "connected").length;
    at("summary").textContent =
      `${cluster.name} · ${cluster.state} · ${cluster.running_nodes.length} running, ` +
      `${cluster.stopped_nodes.length} stopped · linked to ${linked} · ` +
      `${cluster.majority ? "majority" : "no majority"} · ` +
      `${cluster.views_agree ? "views agree" : "views differ"} · ` +
      `${cluster.strategy} over ${cluster.proto_dist}`;
    at("trouble").textContent = cluster.conflict || "";
    showHealth(health);
    showMembers(members.members);
    showDiscovery(cluster);
    at("data").hidden = false;
    await reach();
  } catch (error) {
    if (error instanceof TokenNeeded) return login();
    at("trouble").textContent = `The agent does not answer: ${error.message}`;
  }
}

let due = null;
function soon() {
  due ??= setTimeout(() => { due = null; refresh(); }, 50);
}

let last = null;
let empty = true;
function news(block) {
  const event = { name: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, field, value] = /^([a-z]*):? ?(.*)$/.exec(line) || [];
    if (field === "id") last = value;
    if (field === "event") event.name = value;
    if (field === "data") event.data += value;
  }
  if (event.name === "reset") return soon();
  if (!event.data) return;
  const { at: when, node, kind, from, to, text, by } = JSON.parse(event.data);
  if (empty) { at("events").replaceChildren(); empty = false; }
  const change = to && kind === "changed" ? `${from} → ${to}` : kind;
  const item = make("li", "", to || "");
  const time = make("time", moment(when), "quiet");
  time.dateTime = when;
  item.append(time, ` ${node} ${change}: ${text} (${by})`);
  at("events").prepend(item);
  while (at("events").children.length > EVENTS) at("events").lastChild.remove();
  soon();
}

let following = false;
async function follow() {
  if (following) return;
  following = true;
  for (;;) {
    try {
      const response = last === null
        ? await ask(`/api/v1/events?last=${EVENTS}`)
        : await ask("/api/v1/events", { "Last-Event-ID": last });
      if (!response.ok) throw new Error(response.statusText);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        let end;
        while ((end = text.indexOf("\n\n")) >= 0) {
          news(text.slice(0, end));
          text = text.slice(end + 2);
        }
      }
    } catch (error) {
      if (error instanceof TokenNeeded) {
        following = false;
        return login();
      }
    }
    await pause(2000);
  }
}

function login() {
  token = null;
  sessionStorage.removeItem(KEY);
  at("data").hidden = true;
  if (!at("login").hidden) return;
  at("login").hidden = false;
  at("ready").className = "quiet";
  at("ready").textContent = "Its data is for those who have the token.";
  at("token").focus();
}

at("login").addEventListener("submit", async submitted => {
  submitted.preventDefault();
  token = at("token").value;
  at("token").value = "";
  at("trouble").textContent = "";
  try {
    await get("/api/v1/cluster");
  } catch (error) {
    if (error instanceof TokenNeeded) {
      token = null;
      at("trouble").textContent = "This is not the token.";
      at("token").focus();
      return;
    }
  }
  sessionStorage.setItem(KEY, token);
  at("login").hidden = true;
  start();
});

let polling = null;
function start() {
  refresh();
  follow();
  polling ??= setInterval(() => { if (!document.hidden && at("login").hidden) refresh(); }, 5000);
}

at("columns").append(...COLUMNS.map(([label]) => {
  const cell = make("th", label);
  cell.setAttribute("role", "columnheader");
  cell.scope = "col";
  return cell;
}));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && at("login").hidden) refresh();
});
if (document.body.dataset.token === "needed" && !token) login();
else start();
