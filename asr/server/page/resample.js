// Any sample rate to another, chunk by chunk: a sinc under a Hann window, cut off below half the
// lower of the two rates.

const CROSSINGS = 16; // zero crossings of the sinc on each side
const ROLL_OFF = 0.94; // of the band that is kept

export class Resampler {
  constructor(from, to) {
    this.from = from;
    this.to = to;
    this.band = ROLL_OFF * Math.min(1, to / from);
    this.reach = Math.ceil(CROSSINGS / this.band); // input samples on each side
    this.kernels = new Map();
    this.kept = new Float32Array(this.reach - 1); // silence before the first sample
    this.first = 1 - this.reach; // position of kept[0] in the input
    this.made = 0; // output samples so far
  }

  /** The output samples that can be computed once `samples` (Float32Array) have arrived. */
  push(samples) {
    if (this.from === this.to) return samples;
    const input = new Float32Array(this.kept.length + samples.length);
    input.set(this.kept);
    input.set(samples, this.kept.length);
    const output = [];
    for (;;) {
      const at = this.made * this.from;
      const begin = Math.floor(at / this.to) + 1 - this.reach - this.first;
      if (begin + 2 * this.reach > input.length) break;
      const kernel = this.#kernel(at % this.to);
      let sum = 0;
      for (let k = 0; k < kernel.length; k++) sum += kernel[k] * input[begin + k];
      output.push(sum);
      this.made++;
    }
    const next = Math.floor((this.made * this.from) / this.to) + 1 - this.reach;
    const used = Math.min(next - this.first, input.length);
    this.kept = input.slice(used);
    this.first += used;
    return Float32Array.from(output);
  }

  /** The rest, as if silence followed. */
  flush() {
    return this.from === this.to ? new Float32Array(0) : this.push(new Float32Array(this.reach));
  }

  /** Weights of the 2 * reach samples around an output that lies phase / to behind a sample. */
  #kernel(phase) {
    if (!this.kernels.has(phase)) {
      const kernel = Float32Array.from({ length: 2 * this.reach }, (_, k) => {
        const x = k + 1 - this.reach - phase / this.to;
        const window = 0.5 + 0.5 * Math.cos((Math.PI * x) / this.reach);
        const y = Math.PI * this.band * x;
        return this.band * (y === 0 ? 1 : Math.sin(y) / y) * window;
      });
      const sum = kernel.reduce((a, b) => a + b, 0);
      this.kernels.set(phase, kernel.map((value) => value / sum));
    }
    return this.kernels.get(phase);
  }
}
