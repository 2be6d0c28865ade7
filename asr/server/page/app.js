// Starts the page: models, the token, and the queue of recordings.

import { Problem, models as fetchModels, token } from "./api.js";
import { megabytes, weights } from "./compare.js";
import { setUpIntake } from "./intake.js";
import { Item } from "./item.js";
import { setUpRecording } from "./record.js";

const find = (id) => document.getElementById(id);

let models = [];
let items = [];
let running = false;
let unsaved = false;

const chosen = () => models.find(({ id }) => id === find("model").value) ?? models[0];

function describeModel() {
  const model = chosen();
  const facts = [megabytes(model.bytes), `weights: ${weights(model)}`, "words while you speak"];
  find("model-facts").textContent = facts.join(" · ");
}

/** Shows the form, once for all requests that wait, until a token is given. */
let asking = null;
function askToken(wrong) {
  asking ??= new Promise((resolve) => {
    find("token-form").hidden = false;
    find("token-problem").textContent = wrong ? "The server did not accept that token." : "";
    find("token").value = "";
    find("token").focus();
    find("token-form").onsubmit = (event) => {
      event.preventDefault();
      token.set(find("token").value);
      find("token-form").hidden = true;
      asking = null;
      resolve();
    };
  });
  return asking;
}

function showOutage(problem) {
  const [text, button] = find("outage").children;
  const kept = items.length ? " Your recordings are still here." : "";
  text.textContent = problem.message + kept;
  find("outage").hidden = false;
  button.onclick = () => {
    find("outage").hidden = true;
    start();
  };
}

async function loadModels() {
  models = await fetchModels({ askToken });
  if (!models.length) throw new Problem("The server has no models.", "gone");
  const options = models.map((model) => new Option(model.id, model.id, model.default, model.default));
  find("model").replaceChildren(...options);
  find("model").disabled = false;
  describeModel();
  recording.ready();
}

async function start() {
  try {
    if (!models.length) await loadModels();
    await pump();
  } catch (problem) {
    showOutage(problem);
  }
}

function tell() {
  const done = items.filter(({ state }) => state === "done").length;
  const failed = items.filter(({ state }) => state === "failed").length;
  find("results").hidden = !items.length;
  find("progress-note").textContent = `${done} of ${items.length} transcribed` +
    (failed ? `, ${failed} not` : "");
}

/** Transcribes what waits, one after the other; stops at the first sign that the server is gone. */
async function pump() {
  if (running || !models.length) return;
  running = true;
  try {
    let item;
    while ((item = items.find(({ state }) => state === "waiting"))) {
      await item.run();
      tell();
    }
  } catch (problem) {
    showOutage(problem);
  } finally {
    running = false;
  }
}

const page = {
  model: chosen,
  models: () => models,
  askToken,
  pump,
  edited: () => (unsaved = true),
  removed(item) {
    items = items.filter((other) => other !== item);
    tell();
  },
};

function add(recordings) {
  const made = recordings.map((recording) => new Item(recording, page));
  items.push(...made);
  find("items").prepend(...made.map(({ element }) => element));
  tell();
  if (find("outage").hidden) pump();
  return made;
}

setUpIntake(add);
const recording = setUpRecording(chosen, (made) => {
  unsaved = true; // it is nowhere else
  const [item] = add([{ ...made, recorded: true }]);
  item.element.scrollIntoView({ block: "nearest" });
  find("record").focus();
});
find("model").addEventListener("change", describeModel);
addEventListener("beforeunload", (event) => {
  if (running || unsaved || recording.active()) event.preventDefault();
});
start();
