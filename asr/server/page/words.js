// The words of one transcript: coloured by confidence, played from, marked while played, edited.

import { textOf } from "./export.js";

const LINGER = 0.25; // seconds that a word stays marked in a pause behind it

function kindOf({ confidence, edited }) {
  if (edited) return "edited";
  if (confidence === undefined || confidence >= 0.8) return "";
  return confidence >= 0.5 ? "unsure" : "doubtful";
}

const percent = (confidence) => `${Math.round(100 * confidence)} %`;

/** The words in place of one that was edited; they divide its time by their lengths. */
export function replacement(word, text) {
  const parts = text.split(/\s+/).filter(Boolean);
  const letters = parts.join("").length;
  let start = word.start;
  let seen = 0;
  return parts.map((part) => {
    seen += part.length;
    const end = Math.round(1000 * (word.start + ((word.end - word.start) * seen) / letters)) / 1000;
    const made = { ...word, word: part, start, end, edited: true };
    if ("confidence" in word) made.confidence = 1; // a person said so
    start = end;
    return made;
  });
}

export class Words {
  /** `box` holds the words, `audio` plays them; `changed()` is called after an edit. */
  constructor(box, audio, changed) {
    Object.assign(this, { box, audio, changed, words: [], past: [], editing: false });
    this.now = null;
    box.addEventListener("click", (event) => this.#clicked(event));
    box.addEventListener("dblclick", (event) => this.#edit(this.#indexOf(event.target)));
    box.addEventListener("keydown", (event) => this.#key(event));
    audio.addEventListener("play", () => this.#follow());
    audio.addEventListener("seeked", () => this.#mark());
  }

  get text() {
    return textOf(this.words);
  }

  show(words, focus = 0) {
    this.words = words;
    this.now = null;
    const spans = words.map((word, i) => this.#span(word, i === focus));
    this.box.replaceChildren(...spans.flatMap((span) => [span, " "]));
    if (!words.length) this.box.textContent = "No words were recognised in this recording.";
  }

  undo() {
    if (this.past.length) this.show(this.past.pop());
    this.changed();
  }

  #span(word, reachable) {
    const span = document.createElement("span");
    const kind = kindOf(word);
    span.className = `word ${kind}`;
    span.textContent = word.word;
    span.tabIndex = reachable ? 0 : -1;
    span.setAttribute("role", "button");
    span.title = `${word.start.toFixed(2)} s`;
    if (word.confidence !== undefined && !word.edited) {
      span.title += `, ${percent(word.confidence)} sure`;
    }
    if (kind === "edited") span.setAttribute("aria-label", `${word.word}, edited`);
    else if (kind) {
      span.setAttribute("aria-label", `${word.word}, ${percent(word.confidence)} sure`);
    }
    return span;
  }

  #spans() {
    return this.box.children;
  }

  #indexOf(target) {
    return target.classList?.contains("word") ? [...this.#spans()].indexOf(target) : -1;
  }

  #clicked(event) {
    const i = this.#indexOf(event.target);
    const selecting = getSelection().toString() !== "" && event.detail === 1;
    if (i < 0 || selecting) return;
    this.#reach(i);
    if (this.editing) this.#edit(i);
    else if (event.detail < 2) this.#play(i);
  }

  #key(event) {
    const i = this.#indexOf(event.target);
    if (i < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.words.length - 1;
    const moves = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: last };
    if (event.key in moves) this.#reach(Math.min(Math.max(moves[event.key], 0), last), true);
    else if (event.key === "F2" || (event.key === "Enter" && this.editing)) this.#edit(i);
    else if (event.key === "Enter" || event.key === " ") this.#play(i);
    else if (event.key === "Escape") this.audio.pause();
    else return;
    event.preventDefault();
  }

  /** Only one word is a stop of the Tab key; arrow keys move it. */
  #reach(i, focus = false) {
    for (const span of this.box.querySelectorAll('[tabindex="0"]')) span.tabIndex = -1;
    const span = this.#spans()[i];
    span.tabIndex = 0;
    if (focus) span.focus();
  }

  #play(i) {
    for (const other of document.querySelectorAll("audio")) {
      if (other !== this.audio) other.pause();
    }
    this.audio.currentTime = this.words[i].start;
    this.audio.play().catch(() => {}); // the audio element says what it cannot play
  }

  #follow() {
    this.#mark();
    if (!this.audio.paused) requestAnimationFrame(() => this.#follow());
  }

  #mark() {
    const time = this.audio.currentTime + 0.01;
    let [low, high] = [0, this.words.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.words[middle].start <= time) low = middle + 1;
      else high = middle;
    }
    const found = low && time < this.words[low - 1].end + LINGER ? this.#spans()[low - 1] : null;
    if (found === this.now) return;
    this.now?.classList.remove("now");
    found?.classList.add("now");
    this.now = found;
  }

  #edit(i) {
    if (i < 0) return;
    this.audio.pause();
    const span = this.#spans()[i];
    const input = document.createElement("input");
    input.value = this.words[i].word;
    input.size = Math.max(4, input.value.length + 2);
    input.setAttribute("aria-label", `Edit ${input.value}; empty removes the word`);
    input.autocomplete = "off";
    input.spellcheck = true;
    let over = false;
    const finish = (keep, focus) => {
      if (over) return;
      over = true;
      if (keep && input.value.trim() !== this.words[i].word) this.#replace(i, input.value);
      else this.show(this.words, i);
      if (focus) this.#spans()[Math.min(i, this.words.length - 1)]?.focus();
    };
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      finish(event.key === "Enter", true);
    });
    input.addEventListener("blur", () => finish(true, false));
    span.replaceWith(input);
    this.now = null;
    input.focus();
    input.select();
  }

  #replace(i, text) {
    this.past.push(this.words);
    const words = this.words.toSpliced(i, 1, ...replacement(this.words[i], text));
    this.show(words, Math.min(i, words.length - 1));
    this.changed();
  }
}
