// Words to txt, srt, vtt and json, as `asr transcribe` writes them (asr/transcribe/subtitles.py and
// formats.py): a test compares the two.

const LINE = 42; // most characters in a line of a cue
const LINES = 2;
const LONGEST = 7000; // milliseconds, like all below
const SHORTEST = 1000;
const SHORTEST_EVER = 100;
const GAP = 80;
const PAUSE = 1500;

const ms = (seconds) => Math.round(1000 * seconds);
const sizeOf = (text) => [...text].length;

export const textOf = (words) => words.map(({ word }) => word).join(" ");

/** Words in milliseconds, times never falling; a word longer than a line is split. */
function fragments(words) {
  const found = [];
  let earliest = 0;
  for (const word of words) {
    const start = Math.max(ms(word.start), earliest);
    const end = Math.max(ms(word.end), start);
    const letters = [...word.word];
    const count = Math.ceil(letters.length / LINE);
    const at = (i) => start + Math.floor(((end - start) * i) / count);
    for (let i = 0; i < count; i++) {
      const text = letters.slice(i * LINE, (i + 1) * LINE).join("");
      found.push({ text, start: at(i), end: at(i + 1) });
    }
    earliest = end;
  }
  return found;
}

function wrap(text, width) {
  const lines = [];
  for (const word of text.split(" ")) {
    const line = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && sizeOf(line) <= width) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines;
}

/** As few lines as the text needs, about equally long. */
function layout(text) {
  const needed = wrap(text, LINE).length;
  for (let width = Math.ceil(sizeOf(text) / needed); width < LINE; width++) {
    const lines = wrap(text, width);
    if (lines.length <= needed && lines.every((line) => sizeOf(line) <= width)) return lines;
  }
  return wrap(text, LINE);
}

/** The cheapest way to split fragments into cues within all limits. */
function split(parts) {
  const capacity = LINES * LINE;
  const best = [0, ...parts.map(() => Infinity)];
  const cameFrom = [0, ...parts.map(() => 0)];
  parts.forEach((opening, first) => {
    let [lines, line, characters] = [1, -1, -1];
    for (let end = first + 1; end <= Math.min(first + capacity, parts.length); end++) {
      const part = parts[end - 1];
      const size = sizeOf(part.text);
      characters += 1 + size;
      line += 1 + size;
      if (line > LINE) [lines, line] = [lines + 1, size];
      if (end > first + 1 && (lines > LINES || part.end - opening.start > LONGEST)) break;
      const pause = end < parts.length ? Math.min(parts[end].start - part.end, 500) / 500 : 0;
      const cost = best[first] + 1 + (1 - characters / capacity) ** 2 - pause;
      if (cost < best[end]) [best[end], cameFrom[end]] = [cost, first];
    }
  });
  const groups = [];
  for (let end = parts.length; end; end = cameFrom[end]) {
    groups.unshift(parts.slice(cameFrom[end], end));
  }
  return groups;
}

/** The cues of a transcript, in order, never overlapping; times in milliseconds. */
export function cues(words) {
  const parts = fragments(words);
  const found = [];
  let first = 0;
  for (let last = 1; last <= parts.length; last++) {
    if (last < parts.length && parts[last].start - parts[last - 1].end < PAUSE) continue;
    for (const group of split(parts.slice(first, last))) {
      const lines = layout(group.map(({ text }) => text).join(" "));
      found.push({ start: group[0].start, end: group.at(-1).end, lines });
    }
    first = last;
  }
  let free = 0;
  found.forEach((cue, i) => {
    cue.start = Math.max(cue.start, free);
    cue.end = Math.max(cue.end, cue.start + SHORTEST);
    if (i + 1 < found.length) cue.end = Math.min(cue.end, found[i + 1].start - GAP);
    cue.end = Math.max(Math.min(cue.end, cue.start + LONGEST), cue.start + SHORTEST_EVER);
    free = cue.end + GAP;
  });
  return found;
}

function clock(time, point) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const seconds = Math.floor(time / 1000);
  const rest = String(time % 1000).padStart(3, "0");
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}${point}${rest}`;
}

const times = ({ start, end }, point) => `${clock(start, point)} --> ${clock(end, point)}`;
const escaped = (line) =>
  line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const WRITERS = {
  txt: ({ words }) => `${textOf(words)}\n`,
  srt: ({ words }) =>
    cues(words)
      .map((cue, i) => [i + 1, times(cue, ","), ...cue.lines, ""].join("\n"))
      .join("\n"),
  vtt: ({ words }) =>
    ["WEBVTT\n", ...cues(words).map((cue) =>
      [times(cue, "."), ...cue.lines.map(escaped), ""].join("\n"))].join("\n"),
  json: ({ name, model, duration, words }) =>
    `${JSON.stringify({ path: name, text: textOf(words), duration, model, words }, null, 2)}\n`,
};
const TYPES = {
  txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", json: "application/json",
};

/** The content of a file; `transcript` has name, model, duration (seconds) and words. */
export const write = (transcript, format) => WRITERS[format](transcript);

/** Hands a transcript to the browser as a file, named after the recording. */
export function download(transcript, format) {
  const name = transcript.name.split("/").pop().replace(/\.[^.]+$/, "");
  save(new Blob([write(transcript, format)], { type: TYPES[format] }), `${name}.${format}`);
}

/** Hands a file to the browser under a name. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
