// One recording of the list: its state, its words, and what can be done with them.

import { transcribe } from "./api.js";
import { setUpComparison } from "./compare.js";
import { download, save } from "./export.js";
import { clock } from "./record.js";
import { Words } from "./words.js";

const seconds = (ms) => (ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export class Item {
  /**
   * `recorded`: by this page, so that the file is nowhere else. `page` has model(), models(),
   * askToken and removed(item).
   */
  constructor({ file, name = file.name, result = null, recorded = false }, page) {
    Object.assign(this, { file, name, page, state: "waiting", stop: new AbortController() });
    this.element = document.getElementById("item").content.cloneNode(true).firstElementChild;
    this.find = (selector) => this.element.querySelector(selector);
    this.find(".name").textContent = name;
    this.find("progress").setAttribute("aria-label", `Progress of ${name}`);
    this.find(".remove").addEventListener("click", () => this.remove());
    this.find(".retry").addEventListener("click", () => this.#retry());
    this.find(".save").addEventListener("click", () => save(file, name));
    this.find(".save").hidden = !recorded;
    this.#setUpResult();
    this.#name("Cancel");
    this.#say("Waiting");
    if (result) this.#show(result);
  }

  /** Transcribes it; throws a Problem of kind "gone" and waits again. */
  async run() {
    this.state = "running";
    this.find(".problem").hidden = true;
    this.find("progress").hidden = false;
    this.#uploading(0);
    const { model, askToken } = this.page;
    const options = {
      askToken,
      signal: this.stop.signal,
      onUpload: (fraction) => this.#uploading(fraction),
      onWait: (left) => this.#waiting(left),
    };
    try {
      this.#show(await transcribe(this.file, this.name, model().id, options));
    } catch (problem) {
      if (this.state === "removed") return;
      if (problem.kind === "gone") {
        this.state = "waiting";
        this.#say("Waiting for the server");
        throw problem;
      }
      this.#fail(problem);
    } finally {
      clearInterval(this.timer);
      this.find("progress").hidden = true;
    }
  }

  remove() {
    this.state = "removed";
    this.stop.abort();
    this.find("audio").pause();
    URL.revokeObjectURL(this.find("audio").src);
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.element.remove();
    (next?.querySelector(".remove") ?? document.getElementById("choose-files")).focus();
    this.page.removed(this);
  }

  #say(text) {
    this.find(".state").textContent = text;
  }

  /** The button that takes it off the list. */
  #name(verb) {
    this.find(".remove").textContent = verb;
    this.find(".remove").setAttribute("aria-label", `${verb} ${this.name}`);
  }

  #uploading(fraction) {
    clearInterval(this.timer);
    if (fraction < 1) {
      this.find("progress").value = fraction;
      this.#say(`Uploading, ${Math.floor(100 * fraction)} %`);
      return;
    }
    const began = Date.now();
    const tell = () => this.#say(`Transcribing, ${Math.floor((Date.now() - began) / 1000)} s`);
    this.find("progress").removeAttribute("value");
    this.timer = setInterval(tell, 1000);
    tell();
  }

  #waiting(left) {
    clearInterval(this.timer);
    this.find("progress").removeAttribute("value");
    this.#say(left ? `The server is busy. Trying again in ${left} s.` : "Trying again.");
  }

  #fail(problem) {
    this.state = "failed";
    this.#name("Remove");
    this.#say("Not transcribed");
    this.find(".problem").hidden = false;
    this.find(".problem p").textContent = problem.message;
    this.find(".retry").hidden = problem.kind === "refused";
  }

  #retry() {
    this.state = "waiting";
    this.find(".problem").hidden = true;
    this.#name("Cancel");
    this.#say("Waiting");
    this.page.pump();
  }

  #setUpResult() {
    const audio = this.find("audio");
    this.words = new Words(this.find(".words"), audio, () => {
      this.find(".undo").hidden = !this.words.past.length;
      this.page.edited();
    });
    this.find(".words").setAttribute("aria-label", `Words of ${this.name}`);
    audio.setAttribute("aria-label", this.name);
    audio.addEventListener("error", () => {
      this.find(".problem").hidden = false;
      this.find(".problem p").textContent =
        "This browser cannot play the format of this recording. Its words can be edited and downloaded.";
      this.find(".retry").hidden = true;
      audio.hidden = true;
    });
    for (const button of this.element.querySelectorAll("[data-format]")) {
      button.addEventListener("click", () => download(this.transcript, button.dataset.format));
    }
    this.find(".copy").addEventListener("click", () => this.#copy());
    this.find(".undo").addEventListener("click", () => this.words.undo());
    this.find(".edit").addEventListener("click", ({ currentTarget }) => {
      this.words.editing = !this.words.editing;
      currentTarget.setAttribute("aria-pressed", this.words.editing);
    });
    setUpComparison(this);
  }

  get transcript() {
    const { name, result } = this;
    return { name, model: result.model, duration: result.duration, words: this.words.words };
  }

  #show(result) {
    this.state = "done";
    this.result = result;
    const facts = [clock(result.duration), result.model];
    if (result.ms) facts.push(`transcribed in ${seconds(result.ms)}`);
    if (result.live) facts.push("transcribed live");
    this.#name("Remove");
    this.#say(facts.join(" · "));
    this.find("audio").src = URL.createObjectURL(this.file);
    this.words.show(result.words);
    this.find(".result").hidden = false;
  }

  async #copy() {
    const button = this.find(".copy");
    try {
      await navigator.clipboard.writeText(this.words.text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(this.find(".words")); // without https there is no clipboard
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy text"), 3000);
  }
}
