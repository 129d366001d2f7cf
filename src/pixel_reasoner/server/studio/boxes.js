// Drawing a box on a picture: with a pointer, or with the arrow keys.

const MIN_SIDE = 0.01;
const KEY_STEP = 0.02;
const FIRST_BOX = [0.35, 0.35, 0.65, 0.65];

function BoxPicker({ src, alt, box, label, onBox }) {
  const canvas = useRef(null);
  const start = useRef(null);
  const point = (event) => {
    const place = canvas.current.getBoundingClientRect();
    return [clamp((event.clientX - place.left) / place.width, 0, 1), clamp((event.clientY - place.top) / place.height, 0, 1)];
  };
  const onPointerDown = (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.current.focus();
    canvas.current.setPointerCapture(event.pointerId);
    start.current = point(event);
  };
  const onPointerMove = (event) => {
    if (!start.current) return;
    const [x, y] = point(event);
    const [left, top] = start.current;
    const drawn = [Math.min(x, left), Math.min(y, top), Math.max(x, left), Math.max(y, top)];
    if (drawn[2] - drawn[0] >= MIN_SIDE && drawn[3] - drawn[1] >= MIN_SIDE) onBox(drawn);
  };
  const onPointerUp = () => {
    start.current = null;
  };
  const onKeyDown = (event) => {
    const steps = { ArrowLeft: [-KEY_STEP, 0], ArrowRight: [KEY_STEP, 0], ArrowUp: [0, -KEY_STEP], ArrowDown: [0, KEY_STEP] };
    const step = steps[event.key];
    if (event.key === "Delete" || event.key === "Backspace") onBox(null);
    else if (step) onBox(moved(box, step, event.shiftKey));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="picker" ref=${canvas} tabindex="0" role="group" aria-label=${`${label}. Drag, or use the arrow keys to move it and Shift with the arrow keys to resize it.`}
      onPointerDown=${onPointerDown} onPointerMove=${onPointerMove} onPointerUp=${onPointerUp} onPointerCancel=${onPointerUp} onKeyDown=${onKeyDown}>
    <div class="canvas"><img src=${src} alt=${alt} draggable=${false} />
      ${box ? html`<${Boxes} marks=${[{ box, turn: 0, kind: "own" }]} />` : html`<span class="draw-here" aria-hidden="true">${label}</span>`}</div>
    <span class="offscreen" role="status">${box ? `box ${boxInWords(box)}` : "no box"}</span>
  </div>`;
}

function moved(box, [x, y], isResize) {
  if (!box) return FIRST_BOX;
  let [left, top, right, bottom] = box;
  if (isResize) {
    right = clamp(right + x, left + MIN_SIDE, 1);
    bottom = clamp(bottom + y, top + MIN_SIDE, 1);
    return [left, top, right, bottom];
  }
  x = clamp(x, -left, 1 - right);
  y = clamp(y, -top, 1 - bottom);
  return [left + x, top + y, right + x, bottom + y];
}

function boxInWords(box) {
  const [left, top, right, bottom] = box.map((side) => Math.round(100 * side));
  return `from ${left} to ${right} percent across, ${top} to ${bottom} percent down`;
}
