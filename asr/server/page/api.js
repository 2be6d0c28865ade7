// Requests to the server: progress, the token, waiting when it is busy, and errors for people.

const KEPT_TOKEN = "asr-token";

/**
 * What went wrong, in words for a person. `kind` is "gone" (no server, or it stops), "refused"
 * (the same request will be refused again) or "failed" (anything else).
 */
export class Problem extends Error {
  constructor(message, kind) {
    super(message);
    this.kind = kind;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT_TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(KEPT_TOKEN, value),
};

/** A text as XMLHttpRequest takes it for a header, where each character is a byte: UTF-8. */
const inBytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** One request, resolved with status, text and header(name); `fetch` cannot report an upload. */
function once(method, path, { body, signal, onUpload } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    if (token.get()) request.setRequestHeader("Authorization", `Bearer ${inBytes(token.get())}`);
    if (onUpload) {
      request.upload.onprogress = (event) => onUpload(event.loaded / event.total);
      request.upload.onload = () => onUpload(1);
    }
    request.onload = () => resolve({
      status: request.status,
      text: request.responseText,
      header: (name) => request.getResponseHeader(name),
    });
    request.onerror = () => reject(new Problem("The server does not answer.", "gone"));
    request.onabort = () => reject(signal?.reason ?? new DOMException("stopped", "AbortError"));
    if (signal?.aborted) return reject(signal.reason);
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/** The message of an answer in OpenAI's shape, or one for its status. */
function messageOf({ status, text }) {
  try {
    const { message } = JSON.parse(text).error;
    if (message) return message;
  } catch {
    // Not JSON: a proxy answered.
  }
  return `The server answered ${status}.`;
}

/** Whether the next try may end otherwise: not if the recording takes longer than is allowed. */
const mayReturn = ({ header }) => header("x-should-retry") !== "false";

/** Seconds to wait, from a Retry-After of seconds or of a date. */
function retryAfter(header) {
  const seconds = Number(header ?? 2);
  const wait = Number.isFinite(seconds) ? seconds : (Date.parse(header) - Date.now()) / 1000;
  return Math.max(1, Math.ceil(wait) || 2);
}

/** Waits `seconds`, telling `onWait(seconds left)`; `signal` ends it. */
async function countDown(seconds, onWait, signal) {
  for (let left = seconds; left > 0; left--) {
    onWait?.(left);
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, 1000);
      signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)));
    });
  }
  onWait?.(0);
}

/**
 * A request that asks for a token (`askToken(wrong)`) when the server wants one and waits when it
 * is busy. Rejects with a Problem, or with the signal's reason.
 */
export async function ask(method, path, options = {}) {
  const { signal, askToken, onWait } = options;
  for (;;) {
    const answer = await once(method, path, options).catch((problem) => explain(problem, options));
    if (answer.status < 300) return answer;
    if (answer.status === 401 && askToken) await askToken(token.get() !== "");
    else if (answer.status === 429) {
      await countDown(retryAfter(answer.header("Retry-After")), onWait, signal);
    } else if ([502, 503, 504].includes(answer.status) && mayReturn(answer)) {
      throw new Problem(messageOf(answer), "gone");
    } else throw new Problem(messageOf(answer), answer.status < 500 ? "refused" : "failed");
  }
}

/** A connection that broke during an upload: is the server gone, or did it refuse the rest? */
async function explain(problem, { body }) {
  if (problem.kind === "gone" && body) {
    const alive = await once("GET", "/health").then(({ status }) => status < 300, () => false);
    if (alive) {
      throw new Problem(
        "The connection broke during the upload. The file may be larger than the server takes.",
        "failed",
      );
    }
  }
  throw problem;
}

/** Milliseconds of processing, from Server-Timing; null if the server does not say. */
function processingTime(header) {
  const found = /transcribe;[^,]*dur=([\d.]+)/.exec(header ?? "");
  return found ? Number(found[1]) : null;
}

/** Transcribes a file: {text, duration, words, model, ms}. */
export async function transcribe(file, name, model, options) {
  const body = new FormData();
  body.append("file", file, name.split("/").pop());
  body.append("model", model);
  body.append("response_format", "verbose_json");
  body.append("timestamp_granularities[]", "word");
  const answer = await ask("POST", "/v1/audio/transcriptions", { ...options, body });
  const { text, duration, words = [] } = JSON.parse(answer.text);
  return { text, duration, words, model, ms: processingTime(answer.header("Server-Timing")) };
}

export async function models(options) {
  return JSON.parse((await ask("GET", "/v1/models", options)).text).data;
}
