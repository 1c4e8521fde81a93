// What the tests ask of the page, in the browser. Each is a function; the test calls one.

async function stateNow() {
  const response = await fetch("/dashboard.json");
  return response.json();
}

function poisoned(value, payload) {
  if (typeof value === "string") return payload;
  if (Array.isArray(value)) return value.map((one) => poisoned(one, payload));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, key.endsWith("columns") ? one : poisoned(one, payload)]));
  return value;
}

async function hostile(payload) {
  const page = await import("/assets/dashboard.js");
  const state = await stateNow();
  const bad = poisoned(state, payload);
  bad.stacks = [{ at: 1, name: payload, level: 40, count: 1, facts: {}, stack: payload }];
  bad.reporters = [{ name: payload, every_s: 1, reports: 0, failures: 1, skipped: 0, last_error: payload, running_s: null, finished_age_s: null }];
  bad.health.reasons = [{ name: payload, severity: "stuck", unready: false, facts: { [payload]: payload } }];
  page.render({ apps: [{ name: payload, verdict: payload, lag: null, error: payload }, { name: payload, verdict: payload, lag: null, error: "" }], app: bad });
}

// Milliseconds to draw a state in which every number changed, layout included.
async function timed(times) {
  const page = await import("/assets/dashboard.js");
  const state = await stateNow();
  const at = Object.fromEntries(state.columns.map((name, index) => [name, index]));
  const found = [];
  for (let turn = 0; turn < times; turn += 1) {
    const next = structuredClone(state);
    next.partitions.forEach((row, index) => {
      for (const name of ["committed", "committable", "position", "end", "lag", "in_flight", "waiting", "aside", "beyond"]) row[at[name]] = index + 7 * turn + at[name];
      row[at.oldest_age_s] = (index * 7 + turn * 13) % 200;
    });
    const began = performance.now();
    page.render({ apps: [{ name: "a", verdict: "ok", lag: turn, error: "" }], app: next });
    document.body.getBoundingClientRect();
    found.push(performance.now() - began);
    await new Promise(requestAnimationFrame);
  }
  return found;
}

function rgb(text) {
  return (text.match(/[\d.]+/g) || []).map(Number);
}

function light([red, green, blue]) {
  const parts = [red, green, blue].map((part) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}

// Texts whose contrast with what is behind them is less than so much.
function faint(least) {
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.classList.contains("skip")) continue;
    let behind = element;
    while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] === 0)) behind = behind.parentElement;
    const style = getComputedStyle(element);
    const front = light(rgb(element instanceof SVGElement ? style.fill : style.color)), back = light(rgb(getComputedStyle(behind || document.body).backgroundColor));
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < least) found.push(`${element.tagName} ${element.className} ${element.textContent.slice(0, 20)} ${contrast.toFixed(2)}`);
  }
  return found;
}

// Pictures without a label, fields without a name, buttons without a text.
function nameless() {
  const pictures = [...document.querySelectorAll("[role=img]")].filter((one) => one.getClientRects().length && !one.getAttribute("aria-label"));
  const fields = [...document.querySelectorAll("input, select")].filter((one) => !one.labels.length);
  const buttons = [...document.querySelectorAll("button")].filter((one) => one.getClientRects().length && !one.textContent.trim());
  return [...pictures, ...fields, ...buttons].map((one) => one.outerHTML.slice(0, 80));
}
