// The microphone, and words while one speaks (websocket /v1/listen).

import { token } from "./api.js";

export const RATE = 16000;
const FINAL_SECONDS = 30; // without a word from the server until a recording is uploaded instead

/** Why there is no microphone here, or "". */
export function microphoneMissing() {
  if (navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode) return "";
  return window.isSecureContext
    ? "This browser cannot record from a microphone."
    : "Browsers give a microphone only to pages on https:// or http://localhost: open this page " +
        "there to record.";
}

const REFUSED = {
  NotAllowedError: "The browser was not allowed to use the microphone. Allow it for this page and " +
    "try again.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "The microphone is in use by another program.",
};

/** Opens the microphone; `onBlock(Int16Array of 16 kHz)`, `onEnd()` if it is unplugged. */
export async function openMicrophone(onBlock, onEnd) {
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false };
  const source = await navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
    throw new Error(REFUSED[error.name] ?? `The microphone does not work: ${error.message}`);
  });
  const context = new AudioContext();
  const close = () => {
    for (const track of source.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule("/page/recorder.js");
    await context.resume();
  } catch (error) {
    await close();
    throw new Error(`The recorder did not start: is the server there? (${error.message})`);
  }
  const recorder = new AudioWorkletNode(context, "recorder");
  const over = new Promise((resolve) => {
    recorder.port.onmessage = ({ data }) => (data ? onBlock(data) : resolve());
  });
  source.getAudioTracks()[0].onended = onEnd;
  // Browsers run a node only if it leads to the loudspeakers; this one gives them silence.
  context.createMediaStreamSource(source).connect(recorder).connect(context.destination);
  return {
    async stop() {
      recorder.port.postMessage("stop");
      await over;
      await close();
    },
  };
}

/** Blocks of samples as a WAV file. */
export function wav(blocks, name) {
  const bytes = 2 * blocks.reduce((sum, block) => sum + block.length, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((c, i) => header.setUint8(at + i, c.charCodeAt()));
  text(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // mono
  header.setUint32(24, RATE, true);
  header.setUint32(28, 2 * RATE, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new File([header, ...blocks], name, { type: "audio/wav" });
}

/** One websocket: blocks go out, `onWords(event)` comes in; `onTrouble(message)` at most once. */
export class Listener {
  constructor(model, onWords, onTrouble) {
    const address = new URL("/v1/listen", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ model, sample_rate: RATE });
    Object.assign(this, { onWords, onTrouble, waiting: [], failed: false });
    this.final = new Promise((resolve) => (this.resolve = resolve));
    this.socket = new WebSocket(address);
    this.socket.onopen = () => this.#opened();
    this.socket.onmessage = ({ data }) => this.#received(JSON.parse(data));
    this.socket.onclose = () => this.#fail("the connection to the server ended");
  }

  /** Sends a block, or a text. */
  send(data) {
    if (this.failed) return;
    if (this.socket.readyState === WebSocket.CONNECTING) this.waiting.push(data);
    else this.socket.send(data);
  }

  /** The final event, or null if the server did not get that far. */
  finish() {
    this.send('{"type":"finish"}');
    this.#expect();
    return this.final;
  }

  #opened() {
    if (token.get()) this.socket.send(JSON.stringify({ type: "token", token: token.get() }));
    for (const data of this.waiting.splice(0)) this.socket.send(data);
  }

  #expect() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#fail("the server is too slow"), 1000 * FINAL_SECONDS);
  }

  #received(event) {
    if (this.timer) this.#expect();
    if (event.type === "words") this.onWords(event);
    else if (event.type === "error") this.#fail(event.error.message);
    else if (event.type === "final") {
      if (this.timer) this.#end(event);
      else this.#fail("the server stopped"); // before finish(): what is said now is not in it
    }
  }

  #fail(message) {
    if (this.failed) return;
    this.#end(null);
    this.onTrouble(message);
  }

  #end(result) {
    this.failed = true; // nothing is sent after this
    clearTimeout(this.timer);
    this.resolve(result);
    this.socket.close();
  }
}
