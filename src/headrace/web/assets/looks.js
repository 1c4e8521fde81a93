// A look into records: asked for with the token, shown as text. Nothing is read unless somebody asks.

import { clock, number } from "/assets/charts.js";
import { fill, make, table } from "/assets/panels.js";

const PLACE = /^(.+)\[(\d+)\]@(\d+)$/;
const byId = (id) => document.getElementById(id);

export function looks(state) {
  byId("looks").hidden = !state.looks;
  byId("records-hidden").hidden = Boolean(state.looks);
  if (!state.looks) return;
  fill(byId("letter-topics"), state.dead_letter_topics, () => {
    const button = make("button");
    button.type = "button";
    return button;
  }, (button, topic) => {
    const told = `Newest dead letters of ${topic}`;
    if (button.textContent !== told) button.textContent = told;
    button.dataset.topic = topic;
  });
  places(byId("failure-rows"), 1);
}

// Where a cell says which record it is about, it becomes a button that shows it.
function places(body, column) {
  for (const row of body.children) {
    const cell = row.children[column];
    if (!cell || cell.firstElementChild || !PLACE.test(cell.textContent)) continue;
    const button = make("button", cell.textContent, "place");
    button.type = "button";
    cell.replaceChildren(button);
  }
}

async function ask(what, asked) {
  const answer = byId("look-answer");
  answer.textContent = "reading";
  try {
    const response = await fetch(`/records/${what}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${byId("look-token").value}` },
      body: JSON.stringify(asked),
    });
    const told = await response.json();
    answer.textContent = response.ok ? "" : `not shown: ${told.error}`;
    return response.ok ? told : null;
  } catch (error) {
    answer.textContent = `not asked: ${error.message}`;
    return null;
  }
}

function content(found) {
  if (found === null) return "null";
  return found.cut ? `${found.text}\n… ${number(found.bytes)} bytes in all` : found.text;
}

async function showRecord(topic, partition, offset) {
  byId("look-topic").value = topic;
  byId("look-partition").value = partition;
  byId("look-offset").value = offset;
  const place = byId("record");
  place.hidden = true;
  const found = await ask("one", { topic, partition, offset });
  if (!found) return;
  const rows = [["record", `${found.topic}[${found.partition}]@${found.offset}`], ["timestamp", when(found.timestamp_ms)], ["key", content(found.key)]];
  for (const [name, value] of found.headers) rows.push([name, content(value)]);
  if (found.headers_more) rows.push(["", `${found.headers_more} more headers`]);
  table(byId("record-rows"), rows, ["", "text"], "");
  byId("record-value").textContent = content(found.value);
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
}

function when(ms) {
  return ms === null ? "none" : `${new Date(ms).toISOString().slice(0, 10)} ${clock(ms / 1000)}`;
}

async function showLetters(topic) {
  byId("letters").hidden = true;
  const found = await ask("dead-letters", { topic });
  if (!found) return;
  byId("letters").hidden = false;
  table(byId("letter-rows"), found.letters.map((one) =>
    [`${one.topic}[${one.partition}]@${one.offset}`, when(one.timestamp_ms), one.from, one.key === null ? "null" : one.key.text, one.attempts, one.error]),
  ["text", "", "text", "text", "n", "text"], `No dead letter is in ${topic}.`);
  places(byId("letter-rows"), 0);
}

function chosen(event) {
  const button = event.target.closest("button");
  const found = button && PLACE.exec(button.textContent);
  if (found) showRecord(found[1], Number(found[2]), Number(found[3]));
}

byId("failure-rows").addEventListener("click", chosen);
byId("letter-rows").addEventListener("click", chosen);
byId("letter-topics").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) showLetters(button.dataset.topic);
});
byId("look-form").addEventListener("submit", (event) => {
  event.preventDefault();
  showRecord(byId("look-topic").value, Number(byId("look-partition").value), Number(byId("look-offset").value));
});
// One token, two fields.
for (const [from, to] of [["token", "look-token"], ["look-token", "token"]]) {
  byId(from).addEventListener("input", () => { byId(to).value = byId(from).value; });
}
