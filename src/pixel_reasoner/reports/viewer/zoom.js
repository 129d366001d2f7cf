// Picture view: one picture in a dialog at full resolution, with pan and zoom, layers, and the model's copy next to it.

const MAX_SCALE = 60;
const BOX_SHARE = 0.6; // of the view, after centring on a box
const PAN_PX = 60;

const ZOOM_HELP = [
  ["wheel, + −", "zoom"],
  ["drag, arrow keys", "move"],
  ["n", "centre on the next box"],
  ["b", "boxes on or off"],
  ["m", "the model's copy next to it"],
  ["0", "whole picture"],
  ["1", "one pixel of the source per pixel of the screen"],
  ["Esc", "close"],
];

/**
 * Args of a view: { title, image, sizePx, marks: [{ box, label, turn, kind }], view: image of the model's copy or null,
 * start: index of the mark to centre on, or undefined }.
 */
function ZoomDialog({ shown, store, onClose }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    dialog.current.showModal(); // before the view measures its size
    dialog.current.querySelector(".stage").focus();
  }, []);
  return html`<dialog class="zoom" ref=${dialog} onClose=${onClose} aria-label=${shown.title}>
    <${ZoomView} shown=${shown} store=${store} onClose=${() => dialog.current.close()} />
  </dialog>`;
}

function ZoomView({ shown, store, onClose }) {
  const kinds = [...new Set(shown.marks.map((mark) => mark.kind || "crop"))];
  const [hidden, setHidden] = useState({});
  const [isPaired, setPaired] = useState(false);
  const [status, setStatus] = useState(shown.marks[shown.start] ? describeMark(shown.marks[shown.start]) : "");
  const view = useRef(null);
  const control = usePanzoom(view, shown, isPaired);
  const marks = shown.marks.filter((mark) => !hidden[mark.kind || "crop"]);
  const nextBox = (step = 1) => {
    const label = control.centreOnNext(marks, step);
    setStatus(label);
  };
  const toggleAll = () => setHidden(kinds.some((kind) => !hidden[kind]) ? Object.fromEntries(kinds.map((kind) => [kind, true])) : {});
  const keys = {
    "+": () => control.zoomBy(1),
    "=": () => control.zoomBy(1),
    "-": () => control.zoomBy(-1),
    0: control.fit,
    1: control.original,
    n: () => nextBox(1),
    p: () => nextBox(-1),
    b: toggleAll,
    m: () => shown.view && setPaired(!isPaired),
    ArrowLeft: () => control.move(PAN_PX, 0),
    ArrowRight: () => control.move(-PAN_PX, 0),
    ArrowUp: () => control.move(0, PAN_PX),
    ArrowDown: () => control.move(0, -PAN_PX),
  };
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  };
  return html`<div class="zoom-view" onKeyDown=${onKeyDown}>
    <header>
      <h2>${shown.title}</h2>
      <div class="tools" role="toolbar" aria-label="Picture view">
        ${kinds.map(
          (kind) => html`<label><input type="checkbox" checked=${!hidden[kind]}
            onChange=${() => setHidden({ ...hidden, [kind]: !hidden[kind] })} /> ${kind === "evidence" ? word("annotated evidence") : "crops"}</label>`,
        )}
        ${shown.view
          ? html`<label><input type="checkbox" checked=${isPaired} onChange=${() => setPaired(!isPaired)} /> ${word("model's copy")} next to it</label>`
          : null}
        ${marks.length ? html`<button type="button" onClick=${() => nextBox(1)}>next box</button>` : null}
        <button type="button" onClick=${() => control.zoomBy(-1)} aria-label="zoom out">−</button>
        <button type="button" onClick=${() => control.zoomBy(1)} aria-label="zoom in">+</button>
        <button type="button" onClick=${control.fit}>fit</button>
        <button type="button" onClick=${control.original}>1:1</button>
        <button type="button" onClick=${onClose} class="close">close</button>
      </div>
    </header>
    <div class=${classes("stage", isPaired && "paired")} ref=${view} tabindex="0" role="group"
      aria-label=${`${shown.title}. ${ZOOM_HELP.map((row) => row.join(": ")).join(", ")}`}>
      ${isPaired ? html`<${Layer} image=${shown.view} store=${store} alt=${word("as the model received it")} sizePx=${shown.sizePx} marks=${marks} />` : null}
      <${Layer} image=${shown.image} store=${store} alt=${shown.title} sizePx=${shown.sizePx} marks=${marks} />
      <${MiniMap} shown=${shown} store=${store} control=${control} />
    </div>
    <p class="status" role="status">${status}</p>
  </div>`;
}

function Layer({ image, store, alt, sizePx, marks }) {
  return html`<div class="layer"><div class="canvas movable" style=${{ aspectRatio: `${sizePx[0]} / ${sizePx[1]}` }}>
    <img src=${store.src(image.ref)} alt=${alt} draggable=${false} class=${image.px[0] < sizePx[0] || sizePx[0] < 2000 ? "enlarged" : ""} />
    <${Boxes} marks=${marks} />
  </div></div>`;
}

/** The whole picture, small, with the visible part. */
function MiniMap({ shown, store, control }) {
  const region = useRef(null);
  useEffect(() => {
    control.onChange((part) => {
      if (!region.current) return;
      const [left, top, right, bottom] = part;
      Object.assign(region.current.style, {
        left: percent(left),
        top: percent(top),
        width: percent(right - left),
        height: percent(bottom - top),
      });
      region.current.parentElement.hidden = left <= 0 && top <= 0 && right >= 1 && bottom >= 1;
    });
  });
  return html`<div class="minimap" aria-hidden="true" hidden>
    <img src=${store.src(shown.view?.ref || shown.image.ref)} alt="" /><div class="part" ref=${region}></div>
  </div>`;
}

/** Pan and zoom of the movable elements below `view`: they move together. */
function usePanzoom(view, shown, isPaired) {
  const state = useRef({ zoom: null, last: -1, listener: () => {} });
  useEffect(() => {
    const layers = [...view.current.querySelectorAll(".layer")];
    const movable = layers.map((layer) => layer.firstElementChild);
    const fit = () => {
      for (const [index, layer] of layers.entries()) fitInside(movable[index], layer, shown.sizePx);
    };
    fit();
    const main = movable.at(-1);
    const zoom = window.Panzoom(main, {
      ...startOf(state.current, shown, main, layers.at(-1)),
      maxScale: MAX_SCALE,
      minScale: 0.5,
      step: 0.35,
      animate: !prefersReducedMotion(),
      cursor: "grab",
    });
    const follow = () => {
      const [pan, scale] = [zoom.getPan(), zoom.getScale()];
      for (const one of movable) {
        if (one !== main) one.style.transform = `scale(${scale}) translate(${pan.x}px, ${pan.y}px)`;
        one.style.setProperty("--zoom", scale);
      }
      state.current.listener(visiblePart(main, layers.at(-1), pan, scale));
    };
    const onWheel = (event) => zoom.zoomWithWheel(event);
    main.addEventListener("panzoomchange", follow);
    for (const layer of layers) layer.addEventListener("wheel", onWheel, { passive: false });
    Object.assign(state.current, { zoom, main, layer: layers.at(-1), follow });
    follow();
    setTimeout(follow); // Panzoom moves to its start in a task of its own
    const observer = new ResizeObserver(() => {
      fit();
      follow();
    });
    observer.observe(view.current);
    return () => {
      const pan = zoom.getPan();
      state.current.kept = { scale: zoom.getScale(), x: pan.x / main.clientWidth, y: pan.y / main.clientHeight };
      observer.disconnect();
      zoom.destroy();
      main.removeEventListener("panzoomchange", follow);
      for (const layer of layers) layer.removeEventListener("wheel", onWheel);
    };
  }, [shown, isPaired]);
  return panzoomControl(state, shown);
}

function panzoomControl(state, shown) {
  const centreOn = (marks, index) => {
    const { zoom, main, layer } = state.current;
    const mark = marks[index];
    if (!mark) return "";
    const place = placeOf(mark, main, layer);
    zoom.zoom(place.scale, { animate: false, force: true });
    zoom.pan(place.x, place.y, { animate: false, force: true });
    state.current.last = index;
    state.current.follow();
    return describeMark(mark);
  };
  return {
    centreOnNext: (marks, step) => marks.length ? centreOn(marks, (state.current.last + step + marks.length) % marks.length) : "There are no boxes.",
    zoomBy: (direction) => (direction > 0 ? state.current.zoom.zoomIn() : state.current.zoom.zoomOut()),
    fit: () => {
      state.current.zoom.zoom(1);
      state.current.zoom.pan(0, 0);
    },
    original: () => state.current.zoom.zoom(shown.sizePx[0] / (state.current.main.clientWidth * devicePixelRatio)),
    move: (x, y) => state.current.zoom.pan(x / state.current.zoom.getScale(), y / state.current.zoom.getScale(), { relative: true }),
    onChange: (listener) => {
      state.current.listener = listener;
    },
  };
}

/** Scale and pan at which a box is in the middle of the view. */
function placeOf(mark, main, layer) {
  const [left, top, right, bottom] = mark.box;
  const [width, height] = [main.clientWidth, main.clientHeight];
  const fitting = Math.min((BOX_SHARE * layer.clientWidth) / ((right - left) * width || 1), (BOX_SHARE * layer.clientHeight) / ((bottom - top) * height || 1));
  return { scale: clamp(fitting, 1, MAX_SCALE), x: (0.5 - (left + right) / 2) * width, y: (0.5 - (top + bottom) / 2) * height };
}

/** Where Panzoom starts: at the last position, at the box to centre on, or with the whole picture. */
function startOf(current, shown, main, layer) {
  if (current.kept) return { startScale: current.kept.scale, startX: current.kept.x * main.clientWidth, startY: current.kept.y * main.clientHeight };
  const mark = shown.marks[shown.start];
  if (!mark) return {};
  const place = placeOf(mark, main, layer);
  current.last = shown.start;
  return { startScale: place.scale, startX: place.x, startY: place.y };
}

function describeMark(mark) {
  const place = mark.box.map((one) => one.toFixed(2)).join(" ");
  const name = mark.kind === "evidence" ? evidenceName(mark.named) : `crop ${mark.label}, turn ${mark.turn}`;
  return `${name}: box ${place}`;
}

function fitInside(element, layer, [width, height]) {
  const scale = Math.min(layer.clientWidth / width, layer.clientHeight / height);
  Object.assign(element.style, { width: `${width * scale}px`, height: `${height * scale}px` });
}

/** Visible part of a moved picture, in fractions of it. */
function visiblePart(element, layer, pan, scale) {
  const [width, height] = [element.clientWidth * scale, element.clientHeight * scale];
  const left = (width - layer.clientWidth) / 2 - pan.x * scale;
  const top = (height - layer.clientHeight) / 2 - pan.y * scale;
  const part = [left / width, top / height, (left + layer.clientWidth) / width, (top + layer.clientHeight) / height];
  return part.map((one) => clamp(one, 0, 1));
}
