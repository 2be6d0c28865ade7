// Recordings from the file dialogue, from a folder, or dropped anywhere on the page.

const SOUND = /\.(wav|flac|mp3|ogg|oga|opus|m4a|aac|mp4|m4v|mov|mkv|webm|aiff?|au|w64|caf|sph|wma|amr)$/i;

const isSound = ({ name, type }) => /^(audio|video)\//.test(type) || SOUND.test(name);

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function entriesOf(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found; // it gives a hundred at a time
    found.push(...some);
  }
}

/** [{file, name}] of a folder and of those in it; `left.count` counts what is not a recording. */
async function walk(folder, path, left) {
  const found = [];
  for (const entry of await entriesOf(folder)) {
    const name = `${path}/${entry.name}`;
    if (entry.isDirectory) found.push(...(await walk(entry, name, left)));
    else {
      const file = await fileOf(entry);
      if (isSound(file)) found.push({ file, name });
      else left.count++;
    }
  }
  return found;
}

async function dropped(transfer) {
  // Entries must be taken before the first await: the browser empties `transfer` after it.
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const entries = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const left = { count: 0 };
  const found = [];
  for (const [entry, file] of entries) {
    if (entry?.isDirectory) found.push(...(await walk(entry, entry.name, left)));
    else if (file) found.push({ file, name: file.name });
  }
  return { found, left: left.count };
}

/** `add([{file, name}])` takes the recordings that a person chooses. */
export function setUpIntake(add) {
  const find = (id) => document.getElementById(id);
  const take = ({ found, left }) => {
    found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    const others = left === 1 ? "1 other file" : `${left} other files`;
    find("intake-note").textContent = !found.length && left
      ? `No recordings found: ${others} left out.`
      : left ? `${others} left out.` : "";
    if (found.length) add(found);
  };
  find("choose-files").addEventListener("click", () => find("files").click());
  find("choose-folder").addEventListener("click", () => find("folder").click());
  find("files").addEventListener("change", ({ target }) => {
    take({ found: [...target.files].map((file) => ({ file, name: file.name })), left: 0 });
    target.value = ""; // so that the same file can be chosen again
  });
  find("folder").addEventListener("change", ({ target }) => {
    const sound = [...target.files].filter(isSound);
    const found = sound.map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    take({ found, left: target.files.length - sound.length });
    target.value = "";
  });
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", async (event) => {
    document.body.classList.remove("dragging");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    take(await dropped(event.dataTransfer));
  });
}
