// Runs in the audio thread: the microphone as blocks of 16 kHz mono 16-bit samples.

import { Resampler } from "./resample.js";

const RATE = 16000;
const BLOCK = 1600; // samples, 100 ms

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.over = false;
    this.port.onmessage = () => this.#finish();
  }

  process([channels]) {
    if (this.over) return false;
    if (channels.length) this.#take(this.resampler.push(this.#mixed(channels)));
    return true;
  }

  #mixed(channels) {
    const mono = new Float32Array(channels[0].length);
    for (const channel of channels) channel.forEach((x, i) => (mono[i] += x / channels.length));
    return mono;
  }

  #take(samples) {
    for (const x of samples) {
      this.block[this.filled++] = Math.round(32767 * Math.max(-1, Math.min(1, x)));
      if (this.filled === BLOCK) this.#post();
    }
  }

  #post() {
    const block = this.block.slice(0, this.filled);
    this.filled = 0;
    if (block.length) this.port.postMessage(block, [block.buffer]);
  }

  #finish() {
    this.over = true;
    this.#take(this.resampler.flush());
    this.#post();
    this.port.postMessage(null); // nothing follows
  }
}

registerProcessor("recorder", Recorder);
