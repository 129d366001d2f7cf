// A picture with boxes over it. Boxes are in percent of the picture, so they stay in place at every size.

const ENLARGED_BELOW_PX = 450;

/** Box of a crop in coordinates of the shown region, both in fractions of the source. */
function relativeBox(box, region) {
  const [left, top, right, bottom] = region;
  const [width, height] = [right - left || 1, bottom - top || 1];
  return [(box[0] - left) / width, (box[1] - top) / height, (box[2] - left) / width, (box[3] - top) / height];
}

function percent(fraction) {
  return `${(100 * fraction).toFixed(2)}%`;
}

function Boxes({ marks, hot, onHot, onPick }) {
  return html`<svg class="boxes" aria-hidden="true">
    ${marks.map((mark) => html`<${BoxMark} mark=${mark} isHot=${mark.turn && mark.turn === hot} onHot=${onHot} onPick=${onPick} />`)}
  </svg>`;
}

function BoxMark({ mark, isHot, onHot, onPick }) {
  const [left, top, right, bottom] = mark.box;
  const place = {
    x: percent(left),
    y: percent(top),
    width: percent(right - left),
    height: percent(bottom - top),
  };
  const events = mark.turn && onHot
    ? { onPointerEnter: () => onHot(mark.turn), onPointerLeave: () => onHot(0), onClick: (event) => onPick?.(mark, event) }
    : {};
  return html`<g class=${classes("box", turnClass(mark.turn), mark.kind, mark.named, isHot && "hot")} ...${events}>
    <rect class="halo" ...${place} /><rect class="line" ...${place} />
    ${mark.label ? html`<${BoxLabel} mark=${mark} />` : null}
  </g>`;
}

const LABEL_HEIGHT_PX = 18;
const NEAR_TOP = 0.08;

function BoxLabel({ mark }) {
  const width = 10 + 8 * mark.label.length;
  const top = mark.box[1] < NEAR_TOP ? 0 : -LABEL_HEIGHT_PX; // inside of a box at the upper edge
  return html`<svg class="label" x=${percent(mark.box[0])} y=${percent(mark.box[1])} overflow="visible">
    <g class="tag"><rect y=${top} width=${width} height=${LABEL_HEIGHT_PX} /><text x=${width / 2} y=${top + 13}>${mark.label}</text></g>
  </svg>`;
}

/** The pixels of a picture, or the reason why there are none. */
function Pixels({ image, store, alt, sizePx }) {
  const px = sizePx ?? image.px ?? [0, 0];
  if (!image.ref) {
    const shape = px[0] && px[1] ? { aspectRatio: `${px[0]} / ${px[1]}` } : {};
    return html`<p class="missing" style=${shape} role="img" aria-label=${`${alt}: ${image.problem || "no picture"}`}>
      <span>${alt}<br />${image.problem || "no picture"}</span>
    </p>`;
  }
  const [width, height] = image.px;
  return html`<img class=${width < ENLARGED_BELOW_PX ? "enlarged" : ""} src=${store.src(image.ref)} width=${width} height=${height}
    loading="lazy" decoding="async" alt=${alt} />`;
}

/** A picture as a figure: pixels, boxes and a caption. A click opens the picture view. */
function Figure({ image, store, alt, marks = [], hot, onHot, onPick, onOpen, kind, sizePx, children }) {
  const canvas = html`<${Pixels} image=${image} store=${store} alt=${alt} sizePx=${sizePx} />
    ${image.ref && marks.length ? html`<${Boxes} marks=${marks} hot=${hot} onHot=${onHot} onPick=${onPick} />` : null}`;
  return html`<figure class=${classes(kind)}>
    ${image.ref && onOpen
      ? html`<div class="canvas">${canvas}<button type="button" class="open" onClick=${onOpen} aria-label=${`Enlarge: ${alt}`}><span aria-hidden="true">⤢</span></button></div>`
      : html`<div class="canvas">${canvas}</div>`}
    <figcaption>${children}</figcaption>
  </figure>`;
}

/** Where a crop is in its source: a small copy of the source with one box. */
function Locator({ source, box, store, turn }) {
  if (!source?.image.ref) return null;
  return html`<div class="locator canvas" aria-hidden="true">
    <img src=${store.src(source.image.ref)} alt="" loading="lazy" decoding="async" />
    <${Boxes} marks=${[{ box, turn }]} />
  </div>`;
}
