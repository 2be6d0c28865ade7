// The same recording by two models side by side: text, milliseconds, bytes.

import { transcribe } from "./api.js";

const MOST_WORDS = 3000; // of a text in which differences are looked for; the table is its square

export const megabytes = (bytes) =>
  bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;

export const weights = ({ nonzeros, parameters }) => nonzeros === parameters
  ? `${parameters.toLocaleString("en")}, all used`
  : `${nonzeros.toLocaleString("en")} of ${parameters.toLocaleString("en")}`;

/** For each word of `a` and of `b`, whether the other has it too (longest common subsequence). */
export function common(a, b) {
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      lengths[i * width + j] = a[i] === b[j]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const [inA, inB] = [a.map(() => false), b.map(() => false)];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) inA[i++] = inB[j++] = true;
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return [inA, inB];
}

function marked(words, same) {
  return words.flatMap((word, i) => {
    if (same[i]) return [`${word} `];
    const mark = document.createElement("mark");
    mark.textContent = word;
    return [mark, " "];
  });
}

class Comparison {
  constructor(section, item) {
    Object.assign(this, { section, item });
    section.append(document.getElementById("comparison").content.cloneNode(true));
    const models = item.page.models();
    const dense = models.find(({ sparse }) => !sparse) ?? models[0];
    const sparse = models.find((model) => model.sparse && model !== dense) ?? models[1];
    this.sides = [dense, sparse].map((model) => this.#side(models, model));
    section.querySelector(".pair").append(...this.sides.map(({ element }) => element));
    section.querySelector(".run").addEventListener("click", () => this.run());
    this.#describe();
  }

  async run() {
    const button = this.section.querySelector(".run");
    const controls = [button, ...this.sides.map(({ find }) => find("select"))];
    for (const control of controls) control.disabled = true;
    for (const side of this.sides) side.result = null;
    this.#describe();
    try {
      for (const side of this.sides) {
        this.#say(`Transcribing with ${side.model.id}`);
        const { file, name, page, stop } = this.item;
        side.result = await transcribe(file, name, side.model.id, {
          askToken: page.askToken,
          signal: stop.signal,
          onWait: (left) => this.#say(`The server is busy. Trying again in ${left} s.`),
        });
        this.#describe();
      }
      this.#say(this.#verdict());
      button.textContent = "Run again";
    } catch (problem) {
      this.#say(`${problem.message} Run it again later.`);
    }
    for (const control of controls) control.disabled = false;
  }

  #say(text) {
    this.section.querySelector(".compare-state").textContent = text;
  }

  #verdict() {
    const [first, second] = this.sides;
    const ratio = (a, b, more, less) =>
      `${(a >= b ? a / b : b / a).toFixed(1)} times ${a >= b ? more : less}`;
    const speed = ratio(first.result.ms, second.result.ms, "faster", "slower");
    const size = ratio(first.model.bytes, second.model.bytes, "smaller", "larger");
    return `${second.model.id} is ${speed} and ${size} than ${first.model.id}.`;
  }

  #side(models, model) {
    const element = document.getElementById("side").content.cloneNode(true).firstElementChild;
    const side = { element, model, result: null, find: (name) => element.querySelector(name) };
    const select = side.find("select");
    select.append(...models.map(({ id }) => new Option(id, id, false, id === model.id)));
    select.addEventListener("change", () => {
      side.model = models.find(({ id }) => id === select.value);
      side.result = null;
      this.#describe();
    });
    return side;
  }

  #describe() {
    const most = (value) => Math.max(...this.sides.map(value));
    for (const side of this.sides) {
      const { model, result, find } = side;
      find(".size").textContent = megabytes(model.bytes);
      find(".weights").textContent = weights(model);
      find(".time").textContent = result ? `${Math.round(result.ms)} ms, ` +
        `${Math.round((1000 * result.duration) / result.ms)} times real time` : "not run yet";
      find(".text").textContent = result?.text ?? "";
      const [time, size] = [result?.ms ?? 0, model.bytes];
      const slowest = most((other) => other.result?.ms ?? 0);
      find(".time + .bar span").style.width = `${slowest ? (100 * time) / slowest : 0}%`;
      find(".size + .bar span").style.width = `${(100 * size) / most((s) => s.model.bytes)}%`;
    }
    this.#mark();
  }

  #mark() {
    if (!this.sides.every(({ result }) => result)) return;
    const [a, b] = this.sides.map(({ result }) => result.text.split(" ").filter(Boolean));
    if (Math.max(a.length, b.length) > MOST_WORDS) return;
    const same = common(a, b);
    this.sides[0].find(".text").replaceChildren(...marked(a, same[0]));
    this.sides[1].find(".text").replaceChildren(...marked(b, same[1]));
  }
}

/** The button of an item that opens its panel. */
export function setUpComparison(item) {
  const button = item.find(".compare-open");
  const section = item.find(".compare");
  button.addEventListener("click", () => {
    section.hidden = !section.hidden;
    button.setAttribute("aria-expanded", !section.hidden);
    if (section.hidden || section.children.length) return;
    if (item.page.models().length > 1) new Comparison(section, item);
    else section.textContent = "The server has one model. To compare two, start it " +
      "with both: asr serve --model sparse.asr --model dense.asr";
  });
}
