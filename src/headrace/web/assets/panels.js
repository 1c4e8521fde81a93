// The panels of the page, each a function of one state. What comes from outside is written as text, never as markup.

import { clock, curve, duration, marks, number } from "/assets/charts.js";

const WINDOW_S = 600;
const ROWS_AT_FIRST = 24;
const OLD_S = 30, VERY_OLD_S = 120;
const CAME = new Set(["partition_assigned", "partition_reassigned"]);
const WENT = new Set(["partition_revoked", "partition_sought"]);
const WARNING = 30, ERROR = 40;

const byId = (id) => document.getElementById(id);

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function make(name, value = "", kind = "") {
  const made = document.createElement(name);
  if (value) made.textContent = value;
  if (kind) made.className = kind;
  return made;
}

function said(facts) {
  return Object.entries(facts).filter((fact) => fact[1] !== null && fact[1] !== "").map(([key, value]) => `${key} ${typeof value === "number" && !Number.isInteger(value) ? value.toFixed(1) : value}`).join(", ");
}

// Keeps as many children as there are things, and fills each: what stays is written to, not made anew.
export function fill(place, things, makeOne, fillOne) {
  while (place.children.length > things.length) place.lastElementChild.remove();
  while (place.children.length < things.length) place.append(makeOne());
  things.forEach((thing, index) => fillOne(place.children[index], thing));
}

export function table(place, rows, columns, nothing) {
  if (!rows.length) {
    const cell = make("td", nothing, "none");
    cell.colSpan = columns.length;
    const row = make("tr");
    row.append(cell);
    place.replaceChildren(row);
    place.dataset.empty = "yes";
    return;
  }
  if (place.dataset.empty) {
    place.replaceChildren();
    delete place.dataset.empty;
  }
  fill(place, rows, () => {
    const row = make("tr");
    columns.forEach((kind, index) => {
      const cell = make(index ? "td" : "th", "", kind);
      if (!index) cell.scope = "row";
      row.append(cell);
    });
    return row;
  }, (row, cells) => cells.forEach((value, index) => text(row.children[index], value)));
}

export function named(state) {
  return state.partitions.map((row) => Object.fromEntries(state.columns.map((name, index) => [name, row[index]])));
}

export function sampled(state) {
  return state.samples.map((row) => Object.fromEntries(state.sample_columns.map((name, index) => [name, row[index]])));
}

function slope(samples, key, window) {
  const known = samples.filter((one) => one[key] !== null);
  const last = known[known.length - 1];
  const first = known.find((one) => last.at - one.at <= window);
  return last && first && last.at > first.at ? (last[key] - first[key]) / (last.at - first.at) : null;
}

function forecast(state, samples) {
  if (state.totals.lag === null) return state.lag_unknown;
  const change = slope(samples, "lag", 60);
  if (change === null || Math.abs(change) < 0.05) return state.totals.lag ? "steady" : "none";
  if (change > 0) return `grows by ${number(change)} a second`;
  return `empty in ${duration(state.totals.lag / -change)}`;
}

export function overview(state) {
  const health = state.health, samples = sampled(state);
  text(byId("name"), state.name);
  const verdict = byId("verdict");
  text(verdict, health.verdict);
  verdict.className = `badge ${health.verdict}`;
  document.title = `${health.verdict}: ${state.name} – Headrace`;
  fill(byId("reasons"), health.reasons, () => make("li"), (item, reason) => {
    text(item, `${reason.name.replaceAll("_", " ")}: ${said(reason.facts)}`);
    item.className = reason.severity;
  });
  const aside = ["parked", "held", "settling", "unacked"].reduce((sum, name) => sum + state.totals[name], 0);
  const rate = slope(samples, "finished", 20);
  const numbers = [
    ["Finished per second", number(rate), `${number(state.counters.finished)} in all`],
    ["Lag", number(state.totals.lag), forecast(state, samples)],
    ["In flight", number(state.totals.in_flight), `${number(state.totals.waiting)} waiting`],
    ["Set aside", number(aside), `${number(state.totals.parked)} wait for a retry`],
    ["Oldest unfinished", duration(health.oldest_age_s), ""],
    ["Last commit", duration(health.commit_age_s), health.uncommitted_age_s === null ? "all committed" : `uncommitted for ${duration(health.uncommitted_age_s)}`],
    ["Partitions", number(health.partitions), `${health.live ? "live" : "not live"}, ${health.ready ? "ready" : "not ready"}`],
  ];
  fill(byId("numbers"), numbers, () => {
    const cell = make("div"), value = make("dd");
    value.append(make("span"), make("small"));
    cell.append(make("dt"), value);
    return cell;
  }, (cell, [name, value, more]) => {
    text(cell.children[0], name);
    text(cell.children[1].children[0], value);
    text(cell.children[1].children[1], more);
  });
  const rates = samples.slice(1).map((one, index) => {
    const before = samples[index];
    return [one.at, Math.max(0, (one.finished - before.finished) / Math.max(0.1, one.at - before.at))];
  });
  curve(byId("chart-rate"), rates, "Finished per second");
  curve(byId("chart-lag"), samples.map((one) => [one.at, one.lag]), "Lag in records");
}

function warmth(part) {
  if (part.oldest_age_s === null) return 0;
  return part.oldest_age_s >= VERY_OLD_S ? 3 : part.oldest_age_s >= OLD_S ? 2 : 1;
}

function segments(part) {
  const committed = part.committed === null ? part.committable : part.committed;
  const ahead = part.end === null ? 0 : Math.max(0, part.end - part.position);
  return [Math.max(0, part.committable - committed), part.beyond, part.in_flight, part.waiting, part.aside, ahead];
}

const KINDS = ["done", "beyond", "flight", "waiting", "aside", "ahead"];
const MEANINGS = ["finished and not committed", "finished beyond", "in flight", "waiting", "set aside", "not fetched"];

// Widths grow with the square root: one record beside a million must still be seen. One style a strip, since there are many.
function fillStrip(strip, part) {
  const counts = segments(part);
  const told = counts.map((count, index) => (count ? `${number(count)} ${MEANINGS[index]}` : "")).filter(Boolean).join(", ") || "nothing held";
  if (strip.title === told) return;
  strip.title = told;
  strip.setAttribute("aria-label", told);
  const widths = counts.map(Math.sqrt), all = widths.reduce((sum, one) => sum + one, 0);
  let from = 0;
  const stops = widths.map((width, index) => {
    const to = from + (100 * width) / all, stop = `var(--${KINDS[index]}) ${from.toFixed(1)}% ${to.toFixed(1)}%`;
    from = to;
    return stop;
  });
  strip.style.backgroundImage = all ? `linear-gradient(to right, ${stops.join(", ")})` : "none";
}

function partitionRow() {
  const row = make("tr");
  row.setAttribute("role", "row");
  ["", "", "n", "n", "n", "n", "n", "n", ""].forEach((kind, index) => {
    const cell = make(index ? "td" : "th", "", kind);
    cell.setAttribute("role", index ? "cell" : "rowheader");
    row.append(cell);
  });
  const strip = make("div", "", "strip");
  strip.setAttribute("role", "img");
  row.children[1].append(strip);
  return row;
}

function fillPartition(row, part) {
  const cells = row.children;
  text(cells[0], `${part.topic} ${part.partition}`);
  fillStrip(cells[1].firstElementChild, part);
  [number(part.lag), number(part.in_flight), number(part.waiting), number(part.aside), duration(part.oldest_age_s), part.committed === null ? "–" : String(part.committed)]
    .forEach((value, index) => text(cells[index + 2], value));
  text(cells[8], part.paused.length ? `paused (${part.paused.join(", ")})` : part.phase);
}

export function partitions(state, view) {
  const parts = named(state);
  const busy = parts.filter((part) => part.oldest_age_s !== null).length;
  text(byId("partition-count"), `${parts.length}, ${busy} with unfinished records`);
  const heat = byId("heat");
  heat.hidden = parts.length < 2;
  fill(heat, parts, () => make("i"), (cell, part) => {
    const kind = `h${warmth(part)}${part.paused.length ? " paused" : ""}`;
    if (cell.className !== kind) cell.className = kind;
    const title = `${part.topic} ${part.partition}`;
    if (cell.title !== title) cell.title = title;
  });
  const old = parts.filter((part) => warmth(part) >= 2).length;
  heat.setAttribute("aria-label", `${parts.length} partitions; ${old} have a record older than ${OLD_S} seconds. The table has the numbers.`);
  const shown = view.all ? parts : worst(parts);
  if (parts.length) {
    const body = byId("partition-rows");
    if (body.dataset.empty) {
      body.replaceChildren();
      delete body.dataset.empty;
    }
    fill(body, shown, partitionRow, fillPartition);
  } else table(byId("partition-rows"), [], Array(9).fill(""), "No partition is ours.");
  const more = byId("more");
  more.hidden = parts.length <= ROWS_AT_FIRST;
  text(more, view.all ? `Show the ${ROWS_AT_FIRST} furthest behind` : `Show all ${parts.length}`);
  chosen(parts, view);
}

function worst(parts) {
  if (parts.length <= ROWS_AT_FIRST) return parts;
  const order = parts.map((part, index) => [-(part.oldest_age_s ?? -1), -(part.lag ?? -1), index]);
  order.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return order.slice(0, ROWS_AT_FIRST).map((one) => parts[one[2]]);
}

function chosen(parts, view) {
  const place = byId("chosen");
  const part = parts.find((one) => one.topic === view.topic && one.partition === view.partition);
  place.hidden = !part;
  if (part) {
    text(place, `${part.topic} ${part.partition}: ${part.phase}, epoch ${part.epoch}, committed ${part.committed ?? "nothing"}, committable ${part.committable}, position ${part.position}, end ${part.end ?? "unknown"}, lag ${part.lag ?? "unknown"}`);
  }
}

export function timeline(state) {
  const found = state.events.filter((event) => event.name !== "intake_paused").map((event) =>
    [event.at, event.level >= ERROR ? "bad" : CAME.has(event.name) ? "came" : WENT.has(event.name) || event.level >= WARNING ? "went" : ""]);
  marks(byId("timeline"), state.at - WINDOW_S, state.at, found, `${found.length} events within ten minutes, listed below`);
  const list = byId("events");
  if (!state.events.length) {
    list.replaceChildren(make("li", "Nothing was told yet."));
    return;
  }
  if (!list.querySelector("time")) list.replaceChildren();
  fill(list, [...state.events].reverse(), () => {
    const item = make("li");
    item.append(make("time"), make("b"), make("span"));
    return item;
  }, (item, event) => {
    item.className = event.level >= ERROR ? "error" : event.level >= WARNING ? "warning" : "";
    text(item.children[0], clock(event.at));
    text(item.children[1], event.name.replaceAll("_", " ") + (event.count > 1 ? ` ×${event.count}` : ""));
    text(item.children[2], said(event.facts));
  });
}

export function connections(state) {
  byId("connections").hidden = !state.connections.length;
  if (!state.connections.length) return;
  text(byId("scaling"), state.scaling && state.scaling.why ? `${state.connections.length} now: ${state.scaling.meaning}` : "");
  table(byId("connection-rows"), state.connections.map((one) =>
    [String(one.number), one.state, number(one.partitions), number(one.in_flight), number(one.finished), one.failures ? `failed ${one.failures} times: ${one.error}` : ""]),
  ["", "", "n", "n", "n", "text"], "");
}

function bound(quantile) {
  return quantile ? `${quantile[1] ? "<" : ">"} ${duration(quantile[0])}` : "–";
}

export function hotKeys(state) {
  const found = state.hot_keys ?? { samples: 0, top: [] }; // an app elsewhere may be of an older Headrace
  const share = (samples) => `${((100 * samples) / found.samples).toFixed(samples < 0.1 * found.samples ? 1 : 0)}%`;
  const rest = found.keyless ? `; ${share(found.keyless)} of the records have no key` : "";
  text(byId("key-samples"), found.samples ? `${number(found.samples)} records looked at in the last two minutes, one in ${found.every}${rest}${found.shown ? "" : ". Keys are hidden: each has a name that this process made up"}` : "");
  table(byId("key-rows"), found.top.map((one) =>
    [one.key, `${one.topic} ${one.partition}`, share(one.count - one.error), share(one.count), number((one.count - one.error) * found.every)]),
  ["", "", "n", "n", "n"], "No key stands out.");
}

export function handlers(state) {
  const slowest = [...state.subscriptions].sort((a, b) => b.cost_s - a.cost_s);
  table(byId("subscription-rows"), slowest.map((one) =>
    [one.name, duration(one.cost_s), bound(one.p50), bound(one.p99), number(one.dispatched), `${one.workers_busy} of ${one.workers}`, number(one.chunk_records), number(one.stale)]),
  ["", "n", "n", "n", "n", "n", "n", "n"], "No handler yet.");
  fill(byId("stacks"), [...state.stacks].reverse(), () => {
    const details = make("details");
    details.append(make("summary"), make("pre"));
    return details;
  }, (details, event) => {
    text(details.children[0], `${clock(event.at)} ${event.name.replaceAll("_", " ")}: where threads stood`);
    text(details.children[1], event.stack);
  });
}

export function failures(state) {
  const counters = state.counters;
  text(byId("failure-totals"), `${number(counters.failed)} tries failed, ${number(counters.retried)} retries, ${number(counters.dead_lettered)} dead letters, ${number(counters.skipped)} skipped; ${number(state.totals.parked)} records wait for a retry now`);
  const rows = [...state.failures].reverse().map((one) => {
    const { topic = "", partition = "", offset = "" } = one.facts;
    const error = String(one.facts.error ?? one.facts.reason ?? "");
    return [one.name.replaceAll("_", " "), `${topic}[${partition}]@${offset}`, error, number(one.count), clock(one.at)];
  });
  table(byId("failure-rows"), rows, ["", "text", "text", "n", ""], "Nothing failed.");
}

export function reporters(state) {
  const rows = state.reporters.map((one) => {
    const told = one.running_s !== null && one.running_s > one.every_s ? `hangs for ${duration(one.running_s)}` : one.last_error || (one.reports ? "well" : "no report yet");
    return [one.name, duration(one.every_s), number(one.reports), number(one.failures), number(one.skipped), told];
  });
  table(byId("reporter-rows"), rows, ["", "n", "n", "n", "n", "text"], "No reporters.");
}
