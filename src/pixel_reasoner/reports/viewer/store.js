// Where the parts of a report are: elements of this page, or files next to it.

/**
 * A store has `report`, `item(number)` -> Promise of an item, `src(ref)` -> address of a picture, and `clip(name)`.
 * The page of a report and the server's pages differ only in their store.
 */
function openStore() {
  const node = document.getElementById("report");
  const report = JSON.parse(node.textContent);
  return node.hasAttribute("data-folder") ? folderStore(report) : pageStore(report);
}

const ITEMS_PER_PART = 50;
const MAX_PARTS_IN_MEMORY = 40;

function pageStore(report) {
  const clips = new Map();
  const content = (id) => document.getElementById(id)?.textContent;
  return {
    report,
    async item(number) {
      if (!document.getElementById(`item-${number}`)) await pageLoaded();
      const text = content(`item-${number}`);
      return text ? JSON.parse(text) : null;
    },
    src(ref) {
      const data = content(`file-${ref}`);
      return data ? `data:image/${ref.endsWith(".jpg") ? "jpeg" : "webp"};base64,${data}` : "";
    },
    clip(name) {
      if (!clips.has(name)) clips.set(name, blobAddress(content(`file-${name}`), name));
      return clips.get(name);
    },
  };
}

function pageLoaded() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
}

function blobAddress(data, name) {
  if (!data) return "";
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: `video/${name.split(".").pop()}` }));
}

function folderStore(report) {
  const parts = new Map(); // number of a part -> { promise, resolve }
  // From file:// a page may load scripts but not JSON: a part is a script that calls this function.
  window.pixelReasonerPart = (number, items) => parts.get(number)?.resolve(items);
  const load = (number) => {
    if (parts.has(number)) return parts.get(number).promise;
    if (parts.size >= MAX_PARTS_IN_MEMORY) parts.delete(parts.keys().next().value);
    const part = {};
    part.promise = new Promise((resolve) => {
      part.resolve = resolve;
    });
    parts.set(number, part);
    const script = document.createElement("script");
    script.src = `parts/${number}.js`;
    script.onload = () => script.remove();
    script.onerror = () => part.resolve(null);
    document.head.append(script);
    return part.promise;
  };
  return {
    report,
    async item(number) {
      const items = await load(Math.floor(number / ITEMS_PER_PART));
      return items?.[number % ITEMS_PER_PART] ?? null;
    },
    src: (ref) => `pictures/${ref}`,
    clip: (name) => `pictures/${name}`,
  };
}
