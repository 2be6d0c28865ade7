// The recording panel: clock, level, words so far, and what is done when it stops.

import { Listener, RATE, microphoneMissing, openMicrophone, wav } from "./live.js";

const QUIET = 0.005; // peak below which nothing is heard
const QUIET_SECONDS = 4;
const BEHIND_SECONDS = 3;
const MAY_CHANGE = "Words in italics may still change.";

const find = (id) => document.getElementById(id);

export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function append(box, words) {
  if (!words.length) return;
  const span = document.createElement("span");
  span.textContent = `${words.map(({ word }) => word).join(" ")} `;
  box.append(span); // a node of its own: screen readers say it, and not the words before
}

/** One recording from start to stop. */
class Recording {
  constructor(model) {
    Object.assign(this, { model, blocks: [], samples: 0, quiet: 0, listener: null });
    this.loudest = 0;
  }

  async start(onEnd) {
    this.microphone = await openMicrophone((block) => this.#block(block), onEnd);
    find("stable").replaceChildren();
    find("provisional").replaceChildren();
    find("clock").textContent = "0:00";
    this.#note(MAY_CHANGE);
    this.listener = new Listener(this.model.id, (event) => this.#words(event), (why) =>
      this.#note(`Live words stopped: ${why}. The recording goes on and is transcribed at the end.`));
  }

  /** {file, result}: the recording, and its words unless it has to be uploaded. */
  async stop() {
    await this.microphone.stop();
    this.#note("Finishing the last words.");
    const final = await this.listener.finish();
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
    const { id } = this.model;
    const result = final &&
      { text: final.text, duration: final.duration, words: final.words, model: id, live: true };
    return { file: wav(this.blocks, `recording ${time}.wav`), result };
  }

  #note(text) {
    find("live-note").textContent = text;
  }

  #block(block) {
    this.blocks.push(block);
    this.samples += block.length;
    this.listener?.send(block);
    const peak = block.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 32768;
    find("level").value = Math.sqrt(peak);
    find("clock").textContent = clock(this.samples / RATE);
    this.loudest = Math.max(peak, this.loudest);
    if (this.loudest < QUIET && this.samples > QUIET_SECONDS * RATE) {
      this.#note("Nothing can be heard: check which microphone the browser uses.");
    }
  }

  #words({ stable, provisional, seconds }) {
    append(find("stable"), stable);
    find("provisional").replaceChildren();
    append(find("provisional"), provisional);
    const behind = this.samples / RATE - seconds;
    if (behind > BEHIND_SECONDS) this.#note(`The server is ${Math.round(behind)} seconds behind.`);
    else if (find("live-note").textContent.includes("behind")) this.#note(MAY_CHANGE);
  }
}

/** Makes the buttons work. `model()` is the chosen one; `done({file, result})` takes a recording. */
export function setUpRecording(model, done) {
  let recording = null;
  const stop = async () => {
    const stopped = recording;
    if (!stopped || find("stop").disabled) return;
    find("stop").disabled = true;
    const made = await stopped.stop();
    recording = null;
    find("live").hidden = true;
    find("stop").disabled = find("record").disabled = false;
    if (stopped.samples) done(made);
  };
  find("record").addEventListener("click", async () => {
    find("record").disabled = true;
    find("intake-note").textContent = "";
    const started = new Recording(model());
    try {
      await started.start(stop);
    } catch (problem) {
      find("intake-note").textContent = problem.message;
      find("record").disabled = false;
      return;
    }
    recording = started;
    find("live").hidden = false;
    find("stop").focus();
  });
  find("stop").addEventListener("click", stop);
  return {
    active: () => recording !== null,
    /** Once the models are known. */
    ready() {
      const missing = microphoneMissing();
      find("record").disabled = missing !== "";
      find("intake-note").textContent = missing;
    },
  };
}
