// Bindings of the view library (preact with htm), and helpers without state.

const { html, render, useEffect, useLayoutEffect, useMemo, useRef, useState } = window.htmPreact;

const SIGNS = { right: "✓", wrong: "✗", unparsed: "?", ungraded: "–" };
const OUTCOMES = ["right", "wrong", "unparsed", "ungraded"];
const NUM_COLORS = 6;

let vocabulary = {};

/** Set the words of a report (`Report.words`), which replace those of the viewer. */
function setVocabulary(words) {
  vocabulary = words ?? {};
}

/** A word of the viewer as the report says it. */
function word(name) {
  return vocabulary[name] ?? name;
}

/** Words for a box of the evidence: annotated, a finding of a severity, or a proposed place. */
function evidenceName(named) {
  if (!named) return word("annotated evidence");
  return named === "proposal" ? "proposed place" : `${named} finding`;
}

/** Class of a turn and of everything that belongs to it; colours repeat cyclically. */
function turnClass(turn) {
  return turn ? `turn-${((turn - 1) % NUM_COLORS) + 1}` : "";
}

function classes(...names) {
  return names.filter(Boolean).join(" ");
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}

function prefersReducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Let the browser paint and handle input, so that long work has no long tasks. */
function yieldToBrowser() {
  return new Promise((resolve) => setTimeout(resolve));
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // pages from file:// and frames may not use the clipboard
  }
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("aria-hidden", "true");
  area.className = "offscreen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** A button whose label confirms that something was copied. */
function CopyButton({ label, text }) {
  const [state, setState] = useState("");
  useEffect(() => {
    if (!state) return undefined;
    const timer = setTimeout(() => setState(""), 1500);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => setState((await copyText(text())) ? "copied" : "not allowed here");
  return html`<button type="button" onClick=${copy} aria-live="polite">${state || label}</button>`;
}
