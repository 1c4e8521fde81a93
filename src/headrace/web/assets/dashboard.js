// Reads the stream of states and draws each whole. A state replaces the last: there is nothing to merge, so nothing drifts.

import { looks } from "/assets/looks.js";
import { connections, failures, handlers, hotKeys, named, overview, partitions, reporters, timeline } from "/assets/panels.js";

const SILENT_MS = 5000;
const byId = (id) => document.getElementById(id);
const view = { app: 0, all: false, topic: "", partition: -1 };
let source = null, heardAt = 0, latest = null;

export function render(event) {
  latest = event.app;
  drawApps(event.apps);
  const away = byId("away");
  away.hidden = !event.app.error;
  away.textContent = event.app.error ? `${event.app.name} cannot be reached: ${event.app.error}. What follows is the last that it said.` : "";
  if (!event.app.health) {
    byId("name").textContent = event.app.name;
    byId("verdict").textContent = "unknown";
    byId("verdict").className = "badge unknown";
    return;
  }
  for (const panel of [overview, timeline, connections, handlers, hotKeys, failures, looks, reporters]) panel(event.app);
  partitions(event.app, view);
  byId("actions").hidden = !event.app.actions;
}

function drawApps(apps) {
  const place = byId("apps");
  place.hidden = apps.length < 2;
  while (place.children.length > apps.length) place.lastElementChild.remove();
  while (place.children.length < apps.length) {
    const button = document.createElement("button"), number = place.children.length;
    button.type = "button";
    button.addEventListener("click", () => { view.app = number; connect(); });
    place.append(button);
  }
  apps.forEach((app, index) => {
    const button = place.children[index];
    button.textContent = `${app.name}: ${app.error ? "away" : app.verdict}${app.lag === null ? "" : `, lag ${app.lag}`}`;
    button.className = app.error ? "unknown" : app.verdict;
    button.setAttribute("aria-current", String(index === view.app));
  });
}

function link(kind, told) {
  const place = byId("link");
  if (place.textContent !== told) place.textContent = told;
  place.className = `link ${kind}`;
}

function connect() {
  if (source) source.close();
  source = new EventSource(`/events?app=${view.app}`);
  heardAt = performance.now();
  source.addEventListener("message", (message) => {
    heardAt = performance.now();
    render(JSON.parse(message.data));
    link("up", "live");
  });
  source.addEventListener("error", () => {
    link("down", "no connection; trying again");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

async function act(event) {
  event.preventDefault();
  const to = byId("action-to").value.trim();
  const asked = { topic: byId("action-topic").value, partition: Number(byId("action-partition").value) };
  if (to) asked.to = /^\d+$/.test(to) ? Number(to) : to;
  const answer = byId("action-answer");
  try {
    const response = await fetch(`/actions/${byId("action").value}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${byId("token").value}` },
      body: JSON.stringify(asked),
    });
    const told = await response.json();
    answer.textContent = response.ok ? `asked for: ${told.asked}` : `refused: ${told.error}`;
  } catch (error) {
    answer.textContent = `not sent: ${error.message}`;
  }
}

byId("more").addEventListener("click", () => {
  view.all = !view.all;
  if (latest && latest.health) partitions(latest, view);
});
byId("heat").addEventListener("click", (event) => {
  const index = [...byId("heat").children].indexOf(event.target);
  if (index < 0) return;
  const part = named(latest)[index];
  view.topic = part.topic;
  view.partition = part.partition;
  byId("action-topic").value = part.topic;
  byId("action-partition").value = part.partition;
  partitions(latest, view);
});
byId("action-form").addEventListener("submit", act);
// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connect();
  else if (source) source.close();
});
setInterval(() => {
  if (!document.hidden && performance.now() - heardAt > SILENT_MS) link("down", "silent; what you see is old");
}, 1000);
connect();
