"use strict";

const form = document.getElementById("filters");
const shown = document.getElementById("shown");
const cards = [...document.querySelectorAll("article.trace")];
const controls = [...form.elements].filter((element) => element.name);
const texts = new Map(); // card -> its text in lower case, filled by the first search
let current = null;

function textOf(card) {
  if (!texts.has(card)) texts.set(card, card.textContent.toLowerCase());
  return texts.get(card);
}

function matches(card, control) {
  if (!control.value) return true;
  if (control.name === "text") return textOf(card).includes(control.value.toLowerCase());
  return (card.getAttribute(`data-${control.name}`) ?? "").split("\n").includes(control.value);
}

function filter() {
  for (const card of cards) card.hidden = !controls.every((control) => matches(card, control));
  const count = cards.filter((card) => !card.hidden).length;
  shown.textContent = `${count} of ${cards.length} shown`;
  remember();
}

function remember() {
  const state = new URLSearchParams();
  for (const control of controls) if (control.value) state.set(control.name, control.value);
  if (current) state.set("trace", current.id);
  history.replaceState(null, "", `#${state}`);
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) control.value = state.get(control.name) ?? "";
  const card = cards.find((one) => one.id === state.get("trace"));
  filter();
  if (card && !card.hidden) go(card);
}

function go(card) {
  card.scrollIntoView();
  card.focus({ preventScroll: true });
}

function onScreen(card) {
  const { top, bottom } = card.getBoundingClientRect();
  return bottom > form.offsetHeight + 20 && top < innerHeight;
}

function move(direction) {
  const visible = cards.filter((card) => !card.hidden);
  if (current && !current.hidden && onScreen(current)) {
    const next = visible[visible.indexOf(current) + direction];
    if (next) go(next);
    return;
  }
  const here = visible.find(onScreen) ?? visible[0];
  if (here) go(here);
}

function highlight(target) {
  const linked = target.closest("[data-link]");
  const card = target.closest("article.trace");
  for (const hot of document.querySelectorAll(".hot")) hot.classList.remove("hot");
  if (!linked || !card) return;
  for (const other of card.querySelectorAll("[data-link]"))
    if (other.getAttribute("data-link") === linked.getAttribute("data-link")) other.classList.add("hot");
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
addEventListener("hashchange", recall);

document.addEventListener("pointerover", (event) => highlight(event.target));
document.addEventListener("focusin", (event) => {
  const card = event.target.closest("article.trace");
  if (!card || card === current) return;
  current = card;
  remember();
});
document.addEventListener("click", (event) => {
  const box = event.target.closest("svg [data-link]");
  if (!box) return;
  const step = document.getElementById(box.getAttribute("data-link"));
  if (step) step.scrollIntoView({ block: "center" });
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") move(1);
  if (event.key === "k") move(-1);
});

form.hidden = false;
recall();
