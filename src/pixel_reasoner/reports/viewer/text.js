// Numbers and texts.

function formatValue(value, format) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((one) => formatValue(one, "share")).join("–");
  if (typeof value === "string") return value;
  if (format === "count") return value.toLocaleString("en");
  if (format === "share") return value.toFixed(3);
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function formatSize(px) {
  return `${px[0]} × ${px[1]}`;
}

function formatTime(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}

/** Name of a filter or a sort key in words. */
function inWords(name) {
  return name.replaceAll("-", " ");
}

function Outcome({ outcome }) {
  return html`<span class=${classes("mark", outcome)}><span aria-hidden="true">${SIGNS[outcome] ?? "–"}</span> ${word(outcome)}</span>`;
}
