// One item: the question, what the model received, and every step with its result.

function ItemView({ item, store, entry, position }) {
  const [shown, setShown] = useState(null); // what the picture view shows
  const { question, traces } = item;
  const key = entry?.key ?? question.id;
  return html`<article class="item" aria-labelledby="question">
    <p class="meta">
      ${position ? html`<span class="number">${position}</span>` : null}<span>${question.id}</span>
      ${question.category ? html`<span>${question.category}</span>` : null}
      <span class="actions"><${CopyButton} label="copy link" text=${() => `${location.href.split("#")[0]}#trace=${encodeURIComponent(key)}`} />
      <${CopyButton} label="copy as JSON" text=${() => JSON.stringify(item, null, 1)} /></span>
    </p>
    <h2 id="question" tabindex="-1">${question.text}</h2>
    ${question.options?.length
      ? html`<ol class="options">${question.options.map(([letter, text]) => html`<li><b>${letter}</b> ${text}</li>`)}</ol>`
      : null}
    <div class=${classes("columns", traces.length > 1 && "several")}>
      ${traces.map((trace, index) => html`<${TraceView} trace=${trace} question=${question} store=${store} hasMedia=${index === 0 || !samePictures(trace, traces[0])} onOpen=${setShown} />`)}
    </div>
    ${shown ? html`<${ZoomDialog} shown=${shown} store=${store} onClose=${() => setShown(null)} />` : null}
  </article>`;
}

function samePictures(one, other) {
  const names = (trace) => (trace.pictures ?? []).filter((picture) => !picture.turn).map((picture) => picture.view.ref || picture.view.problem).join();
  return names(one) === names(other);
}

function TraceView({ trace, question, store, hasMedia, onOpen }) {
  const [hot, setHot] = useState(0);
  const root = useRef(null);
  const pictures = useMemo(() => new Map((trace.pictures ?? []).map((one) => [one.number, one])), [trace]);
  const goTo = (mark) => {
    const step = root.current.querySelector(`[data-turn="${mark.turn}"]`);
    step?.scrollIntoView({ block: "center", behavior: prefersReducedMotion() ? "auto" : "smooth" });
  };
  const shared = { trace, store, pictures, hot, onHot: setHot, onPick: goTo, onOpen };
  return html`<section class="trace" ref=${root} aria-label=${trace.name || "trace"}>
    ${trace.name ? html`<h3>${trace.name}</h3>` : null}
    <${Verdict} trace=${trace} question=${question} />
    ${(trace.notes ?? []).map((note) => html`<p class="note"><b>Note.</b> ${note}</p>`)}
    ${trace.error ? html`<p class="error"><b>Failed.</b> ${trace.error}</p>` : null}
    ${hasMedia ? html`<${MediaView} ...${shared} />` : null}
    <${Turns} ...${shared} />
    ${trace.candidates?.length ? html`<${Candidates} trace=${trace} store=${store} onOpen=${onOpen} />` : null}
    ${trace.mask?.length ? html`<${Mask} segments=${trace.mask} />` : null}
  </section>`;
}

/** Whether the trace is still generated: a page of the server shows its steps as they happen. */
function isInProgress(trace) {
  return trace.stop === "running";
}

function Verdict({ trace, question }) {
  if (isInProgress(trace)) return null;
  const none = (text) => html`<span class="none">${text}</span>`;
  return html`<dl class=${classes("verdict", trace.outcome)}>
      <div><dt>result</dt><dd><${Outcome} outcome=${trace.outcome} /></dd></div>
      <div><dt>answered</dt><dd>${trace.answered ?? none("no answer")}</dd></div>
      <div><dt>expected</dt><dd>${question.expected || none("not known")}</dd></div>
    </dl>
    ${trace.reason ? html`<p class=${classes("reason", trace.outcome)}>${trace.reason}</p>` : null}
    <p class="facts">${(trace.facts ?? []).map(([name, value]) => html`<span>${name} <b>${value}</b></span>`)}</p>`;
}

// --- pictures of the question ---

function sourceOf(trace, picture) {
  return (trace.sources ?? []).find((one) => one.medium === picture.medium && (one.frame ?? null) === (picture.frame ?? null));
}

function isWhole(box) {
  return box[0] === 0 && box[1] === 0 && box[2] === 1 && box[3] === 1;
}

/** Marks of all crops of a source, and of its evidence, in coordinates of the region that is shown. */
function marksOf(trace, source, region = [0, 0, 1, 1], parent = null) {
  const regions = (trace.pictures ?? []).flatMap((one) => [one, ...(one.beside ?? []).map((region) => ({ ...region, number: one.number, turn: one.turn, parent: one.parent }))]);
  const crops = regions.filter(
    (one) => one.turn && one.medium === source.medium && (one.frame ?? null) === (source.frame ?? null) && !isWhole(one.box),
  );
  const own = parent === null ? crops : crops.filter((one) => one.parent === parent);
  const marks = own.map((one) => ({ box: relativeBox(one.box, region), label: String(one.number), turn: one.turn, kind: "crop" }));
  const kinds = source.box_kinds ?? [];
  const evidence = (source.evidence ?? []).map((box, at) => ({ box: relativeBox(box, region), kind: "evidence", named: kinds[at] }));
  return [...marks, ...evidence.filter(({ box }) => box[0] < 1 && box[1] < 1 && box[2] > 0 && box[3] > 0)];
}

/** Distinct names of the boxes of a picture; undefined for annotated evidence. */
function evidenceNames(marks) {
  return [...new Set(marks.filter((one) => one.kind === "evidence").map((one) => one.named))];
}

function MediaView(shared) {
  return (shared.trace.media ?? []).map((media) =>
    media.kind === "image"
      ? html`<${Pictures} ...${shared} media=${media} />`
      : html`<${ClipView} ...${shared} media=${media} />`,
  );
}

/** Pictures of an image, and the crops that a conversation got before this question. */
function Pictures({ media, ...shared }) {
  const shown = media.pictures.map((number) => shared.pictures.get(number)).filter(Boolean);
  const earlier = shown.filter((picture) => picture.parent);
  return html`${shown.filter((picture) => !picture.parent).map((picture) => html`<${PicturePair} ...${shared} media=${media} picture=${picture} />`)}
    ${earlier.length ? html`<p class="facts">The prompt also contains these regions.</p>
      <div class="results earlier">${earlier.map((picture) => html`<${Result} ...${shared} picture=${picture} />`)}</div>` : null}`;
}

function PicturePair({ trace, store, media, picture, hot, onHot, onPick, onOpen }) {
  const source = sourceOf(trace, picture);
  if (!source) return null;
  const marks = marksOf(trace, source);
  const name = `Picture ${picture.number}`;
  const open = (start) => onOpen({ title: `${name}: ${media.name}`, image: source.image, sizePx: source.px, marks, view: picture.view.ref ? picture.view : null, start });
  const pick = (mark) => onPick(mark);
  return html`<div class=${classes("pair", shapeOf(source.px))}>
    <${Figure} image=${picture.view} store=${store} alt=${`${name} ${word("as the model received it")}`} sizePx=${picture.seen_px} onOpen=${source.image.ref && (() => open())}>
      <b>${name}</b> ${word("as the model received it")}, ${formatSize(picture.seen_px)} px<//>
    <${Figure} image=${source.image} store=${store} alt=${`${name} at full resolution, ${media.name}`} sizePx=${source.px} marks=${marks}
      hot=${hot} onHot=${onHot} onPick=${pick} onOpen=${source.image.ref && (() => open())}>
      <b>Source</b> ${media.name}, ${formatSize(source.px)} px
      ${marks.some((one) => one.kind === "crop") ? html` · <span class="key">crops</span>` : null}
      ${evidenceNames(marks).map((name) => html` · <span class=${classes("key dashed", name)}>${evidenceName(name)}</span>`)}<//>
  </div>`;
}

function shapeOf([width, height]) {
  if (height > 1.6 * width) return "tall";
  return width > 2 * height ? "wide" : "";
}

function ClipView({ trace, store, media, pictures, hot, onHot, onOpen }) {
  const frames = media.pictures.map((number) => pictures.get(number)).filter(Boolean);
  if (!frames.length) return null;
  const turnOf = (frame) => (trace.pictures ?? []).find((one) => one.turn && one.frame === frame.frame && one.medium === frame.medium)?.turn ?? 0;
  const open = (frame) => {
    const source = sourceOf(trace, frame);
    onOpen({ title: `Frame ${frame.frame}`, image: source?.image.ref ? source.image : frame.view, sizePx: source?.px ?? frame.seen_px, marks: source ? marksOf(trace, source) : [], view: null });
  };
  return html`<${Clip} media=${media} trace=${trace} store=${store} frames=${frames} turnOf=${turnOf} hot=${hot} onHot=${onHot} onOpen=${open} />`;
}

// --- turns ---

function Turns(shared) {
  const { trace } = shared;
  const turns = trace.turns ?? [];
  const half = trace.omitted_turns ? turns.length / 2 : -1;
  return html`<ol class="turns">
    ${turns.map((turn, index) => html`
      ${index === half ? html`<li class="turn omitted"><p class="words">${trace.omitted_turns.toLocaleString("en")} turns are not shown.</p></li>` : null}
      <${TurnView} ...${shared} turn=${turn} />`)}
    ${isInProgress(trace) ? html`<li class="turn end running"></li>` : html`<${End} trace=${trace} />`}
  </ol>`;
}

function End({ trace }) {
  return html`<li class=${classes("turn end", trace.outcome)}><span class="dot" aria-hidden="true">${SIGNS[trace.outcome] ?? "–"}</span>
      <p class="words">${trace.answered === undefined ? html`<span class="none">No answer: ${trace.stop}</span>` : html`Answer <b>${trace.answered}</b>`}</p></li>`;
}

function TurnView({ turn, trace, store, pictures, hot, onHot, onOpen }) {
  const calls = turn.parts.filter((part) => part.call).map((part) => part.call);
  const isRefused = calls.length > 0 && calls.every((call) => call.error);
  const results = calls.flatMap((call) => call.pictures ?? []).map((number) => pictures.get(number)).filter(Boolean);
  const drawings = calls.flatMap((call) => call.drawings ?? []);
  const kind = isRefused ? "refused" : turnClass(turn.number);
  return html`<li class=${classes("turn", kind, turn.number === hot && "hot")} data-turn=${turn.number}
      onPointerEnter=${() => onHot(turn.number)} onPointerLeave=${() => onHot(0)}>
    <span class="dot" aria-hidden="true">${turn.number}</span>
    <div class="words">
      ${turn.parts.map((part) => html`<${PartView} part=${part} isMistake=${turn.is_mistake} isScripted=${turn.is_scripted} />`)}
      ${turn.raw ? html`<details><summary>generated text</summary><pre tabindex="0">${turn.raw}</pre></details>` : null}
    </div>
    ${drawings.length ? html`<div class="results">${drawings.map((image) => html`<${DrawnResult} image=${image} store=${store} onOpen=${onOpen} />`)}</div>` : null}
    ${results.length ? html`<div class="results">${results.map((picture) => html`<${Result} picture=${picture} trace=${trace} store=${store} hot=${hot} onHot=${onHot} onOpen=${onOpen} />`)}</div>` : null}
  </li>`;
}

function PartView({ part, isMistake, isScripted }) {
  if (part.thought !== undefined) return html`<p class="thought">${part.thought}</p>`;
  if (part.text !== undefined) return html`<p class="thought">${part.text}</p>`;
  const { call } = part;
  return html`<p class="call">${call.words}${isScripted ? html`<span class="mistake">shown by the strategy</span>` : null}${isMistake ? html`<span class="mistake">a deliberate mistake</span>` : null}</p>
    ${(call.repairs || []).map((one) => html`<p class="repair"><b>Repaired.</b> ${one}</p>`)}
    ${call.error ? html`<p class="refusal"><b>Rejected, ${call.error}.</b> ${call.reply}</p>` : null}
    ${!call.error && call.reply !== undefined ? html`<p class="reply">${call.reply}</p>` : null}`;
}

/** What was measured or read, drawn on the picture. The model received the text alone. */
function DrawnResult({ image, store, onOpen }) {
  const name = "The result, drawn on the picture";
  const open = () => onOpen({ title: name, image, sizePx: image.px, marks: [], view: null });
  return html`<div class=${classes("result", shapeOf(image.px))}>
    <${Figure} image=${image} store=${store} alt=${name} sizePx=${image.px} onOpen=${image.ref && open}><b>Drawn</b> for this page; the model received the text<//>
  </div>`;
}

function Result({ picture, trace, store, hot, onHot, onOpen }) {
  const source = sourceOf(trace, picture);
  const isSheet = Boolean(picture.beside?.length);
  const marks = source && !isSheet ? marksOf(trace, source, picture.box, picture.number) : [];
  const name = `Picture ${picture.number}`;
  const open = () => onOpen(resultView(picture, trace, source, name));
  return html`<div class=${classes("result", shapeOf(picture.seen_px))}>
    <${Figure} image=${picture.view} store=${store} alt=${`${name} ${word("as the model received it")}`} sizePx=${picture.seen_px} marks=${marks} hot=${hot} onHot=${onHot} onOpen=${open}>
      <b>${name}</b>${picture.frame ? `, frame ${picture.frame}` : ""}${picture.time_s === undefined ? "" : ` at ${formatTime(picture.time_s)}`}
      <br />${formatSize(picture.source_px)} → ${formatSize(picture.seen_px)} px${(picture.transforms ?? []).map((one) => html`<br />${one}`)}<//>
    ${source && !isSheet && !isWhole(picture.box) ? html`<${Locator} source=${source} box=${picture.box} store=${store} turn=${picture.turn} />` : null}
  </div>`;
}

/** The picture view of a crop: its source, centred on its box. */
function resultView(picture, trace, source, name) {
  if (!source?.image.ref || isWhole(picture.box)) {
    return { title: name, image: picture.view, sizePx: picture.source_px, marks: [], view: null };
  }
  const marks = marksOf(trace, source);
  const start = marks.findIndex((mark) => mark.label === String(picture.number));
  const overview = (trace.pictures ?? []).find((one) => !one.turn && one.medium === picture.medium && (one.frame ?? null) === (picture.frame ?? null));
  return { title: `${name} in its source`, image: source.image, sizePx: source.px, marks, view: overview?.view.ref ? overview.view : null, start };
}

// --- rollouts of a strategy ---

function Candidates({ trace, store, onOpen }) {
  const { candidates } = trace;
  const hidden = trace.num_candidates - candidates.length;
  return html`<details class="candidates" open><summary>${trace.num_candidates} rollouts of the strategy</summary>
    <ol class="results">${candidates.map((one) => html`<${CandidateView} candidate=${one} trace=${trace} store=${store} onOpen=${onOpen} />`)}</ol>
    ${hidden > 0 ? html`<p class="facts">${hidden.toLocaleString("en")} less probable rollouts are not shown.</p>` : null}
  </details>`;
}

function CandidateView({ candidate, trace, store, onOpen }) {
  const score = candidate.score === undefined ? null : html`<span>score <b>${candidate.score.toFixed(2)}</b></span>`;
  return html`<li class=${classes("candidate", candidate.is_selected && "selected")}>
    <p class="facts">${candidate.is_selected ? html`<span><b>selected</b></span>` : null}
      ${candidate.text ? html`<span>${candidate.text}</span>` : null}
      <span>${candidate.answered ?? "no answer"}</span>${score}
      ${candidate.votes ? html`<span>votes <b>${candidate.votes}</b></span>` : null}</p>
    ${(candidate.regions ?? []).map((region) => html`<${CandidateRegion} region=${region} trace=${trace} store=${store} onOpen=${onOpen} />`)}
  </li>`;
}

function CandidateRegion({ region, trace, store, onOpen }) {
  const source = sourceOf(trace, region);
  const open = () => onOpen({ title: "Region of a rollout", image: source.image, sizePx: source.px, marks: [{ box: region.box, label: "", turn: 1, kind: "crop" }], view: null, start: 0 });
  return html`<div class="result">
    <${Figure} image=${region.view} store=${store} alt="region of a rollout" sizePx=${region.view.px} onOpen=${source?.image.ref && open}>${null}<//>
    ${source && !isWhole(region.box) ? html`<${Locator} source=${source} box=${region.box} store=${store} turn=${1} />` : null}
  </div>`;
}

// --- the loss mask of a training example ---

function Mask({ segments }) {
  const trained = segments.filter((one) => one.is_trained).reduce((sum, one) => sum + one.text.length, 0);
  const total = segments.reduce((sum, one) => sum + one.text.length, 0);
  return html`<details class="mask" open><summary>training example: the loss covers ${((100 * trained) / Math.max(1, total)).toFixed(0)} % of its characters</summary>
    <p class="legend"><span class="sample trained">trained</span> <span class="sample">masked</span></p>
    <pre tabindex="0">${segments.map((one) => (one.is_trained ? html`<mark>${one.text}</mark>` : html`<span>${one.text}</span>`))}</pre>
  </details>`;
}
