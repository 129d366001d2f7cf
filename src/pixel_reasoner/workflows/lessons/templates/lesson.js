// A lesson: one question at a time. Guess, reveal, explain, next. Answers are decoded when the learner has committed.

const ROWS = ["upper", "middle", "lower"];
const COLUMNS = ["left", "centre", "right"];
const TAP_SIDE = 0.18;
const MIN_DRAG_PX = 8;
const WIDE_GUESS = 0.4;
const NEAR = 0.25;
const SIGN = { right: "✓", wrong: "✗", unknown: "" };

function unseal(text) {
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))));
}

function startLesson(root) {
  const lesson = JSON.parse(document.getElementById("lesson").textContent);
  root.textContent = "";
  render(html`<${LessonApp} lesson=${lesson} />`, root);
}

// --- what is remembered ---

/** Key of a lesson in the storage of the browser. Pages from file:// may share one storage. */
function lessonKey(lesson) {
  let hash = 0;
  for (const step of lesson.steps) {
    for (const letter of `${step.question}${step.reveal.length}`) hash = (31 * hash + letter.charCodeAt(0)) | 0;
  }
  return `pixel-reasoner-lesson-${hash >>> 0}`;
}

function loadProgress(lesson) {
  try {
    const saved = JSON.parse(localStorage.getItem(lessonKey(lesson)));
    if (Array.isArray(saved?.steps) && saved.steps.length === lesson.steps.length) return saved;
  } catch { /* no storage here: the lesson starts from the beginning */ }
  return newProgress(lesson);
}

function newProgress(lesson) {
  return { at: 0, steps: lesson.steps.map(() => ({ guess: null, answer: "", words: "", isCommitted: false })) };
}

function saveProgress(lesson, progress) {
  try {
    localStorage.setItem(lessonKey(lesson), JSON.stringify(progress));
  } catch { /* no storage here: words last until the page is closed */ }
}

// --- guesses ---

function boxArea(box) {
  return Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]);
}

function boxCentre(box) {
  return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
}

function isInside(point, box) {
  return point[0] >= box[0] && point[0] <= box[2] && point[1] >= box[1] && point[1] <= box[3];
}

function placeInWords(box) {
  const cell = (value) => Math.min(2, Math.floor(3 * value));
  const [x, y] = boxCentre(box);
  return cellName(cell(y), cell(x));
}

function cellName(y, x) {
  return y === 1 && x === 1 ? "centre" : `${ROWS[y]} ${COLUMNS[x]}`;
}

function guessInWords(step, guess) {
  if (!guess) return "";
  return guess.image ? `${pictureName(step)} ${guess.image}` : placeInWords(guess.box);
}

function pictureName(step) {
  return step.is_clip ? "frame" : "picture";
}

/** Compare a guess with the places that matter: same, near, wide, other; and how many places it covers. */
function compareGuess(step, reveal, guess) {
  if (guess.image) {
    const frames = reveal.target_frames.length ? reveal.target_frames : [reveal.target_image];
    return { kind: frames.includes(guess.image) ? "same" : "other", found: 0, total: 1 };
  }
  const targets = reveal.targets;
  if (boxArea(guess.box) > WIDE_GUESS) return { kind: "wide", found: 0, total: targets.length };
  const found = targets.filter((box) => isInside(boxCentre(box), guess.box) || isInside(boxCentre(guess.box), box));
  const [x, y] = boxCentre(guess.box);
  const isNear = targets.some((box) => Math.hypot(boxCentre(box)[0] - x, boxCentre(box)[1] - y) < NEAR);
  return { kind: found.length ? "same" : isNear ? "near" : "other", found: found.length, total: targets.length };
}

const RESULT_WORDS = {
  same: "You chose a place that matters.",
  near: "Close: your place is next to one that matters.",
  wide: "Your box covers much of the picture. A smaller box says more.",
  other: "You chose another place. Compare the two.",
};

function resultInWords(step, result) {
  if (step.pictures.length > 1) {
    const name = pictureName(step);
    return result.kind === "same" ? `You chose a ${name} that matters.` : `You chose another ${name}. Compare the two.`;
  }
  const more = result.total > 1 ? ` This question needs ${result.total} places; your box is at ${result.found} of them.` : "";
  return RESULT_WORDS[result.kind] + more;
}

// --- the page ---

function LessonApp({ lesson, onClose }) {
  const [progress, setProgress] = useState(() => loadProgress(lesson));
  const [isStarted, setStarted] = useState(() => progress.at > 0 || progress.steps[0]?.isCommitted);
  const store = useMemo(() => ({ src: (ref) => lesson.pictures[ref] }), [lesson]);
  const change = (next) => {
    setProgress(next);
    saveProgress(lesson, next);
  };
  const changeStep = (fields) => {
    const steps = progress.steps.map((one, number) => (number === progress.at ? { ...one, ...fields } : one));
    change({ ...progress, steps });
  };
  const go = (at) => {
    setStarted(true);
    change({ ...progress, at });
  };
  const step = lesson.steps[progress.at];
  const restart = () => {
    change(newProgress(lesson));
    setStarted(false);
  };
  return html`<div class="lesson">
    ${isStarted || onClose ? html`<header class="lesson-top">
      <p class="lesson-title">${lesson.title}</p>
      ${onClose ? html`<button type="button" onClick=${onClose}>Close the lesson</button>` : null}
      ${isStarted ? html`<${ProgressLine} at=${progress.at} total=${lesson.steps.length} />` : null}
    </header>` : null}
    <main>
      ${!isStarted
        ? html`<${LessonStart} lesson=${lesson} onStart=${() => go(0)} />`
        : step
          ? html`<${StepView} key=${step.number} step=${step} total=${lesson.steps.length} store=${store} learner=${progress.steps[progress.at]}
              onChange=${changeStep} onNext=${() => go(progress.at + 1)} onBack=${progress.at ? () => go(progress.at - 1) : null} />`
          : html`<${LessonEnd} lesson=${lesson} progress=${progress} onGo=${go} onRestart=${restart} />`}
    </main>
  </div>`;
}

function ProgressLine({ at, total }) {
  const text = at < total ? `Question ${at + 1} of ${total}` : `All ${total} questions are done`;
  return html`<p class="progress"><label for="progress">${text}</label><progress id="progress" max=${total} value=${at}></progress></p>`;
}

/** A heading that receives the focus, so that a new part of the page is announced and in view. */
function FocusHeading({ level, children }) {
  const heading = useRef(null);
  // Before the page is painted: later, the focus would be taken from a reader who has pressed a key already.
  useLayoutEffect(() => {
    heading.current.focus({ preventScroll: true });
    heading.current.scrollIntoView({ block: "start", behavior: prefersReducedMotion() ? "auto" : "smooth" });
  }, []);
  const Tag = level === 1 ? "h1" : "h2";
  return html`<${Tag} tabindex="-1" ref=${heading}>${children}</${Tag}>`;
}

function LessonStart({ lesson, onStart }) {
  return html`<section class="card">
    <h1 class="plain-heading">${lesson.title}</h1>
    <p>A computer model answers questions about pictures. First it sees only a small picture. Then it may look closer.</p>
    <ol class="numbered">
      <li><b>Guess.</b> Where would you look closer?</li>
      <li><b>Reveal.</b> See where the model looked, and what it saw.</li>
      <li><b>Explain.</b> Say in your own words why that place matters.</li>
    </ol>
    <p class="soft">${lesson.about}</p>
    <p class="soft">Your guesses and words stay in this browser. Nothing is sent.</p>
    <button type="button" class="primary" onClick=${onStart}>Start: ${lesson.steps.length} question${lesson.steps.length === 1 ? "" : "s"}</button>
  </section>`;
}

function StepView({ step, total, store, learner, onChange, onNext, onBack }) {
  const reveal = useMemo(() => (learner.isCommitted ? unseal(step.reveal) : null), [learner.isCommitted]);
  return html`<article class="card">
    ${step.has_mistake ? html`<p class="mistake-mark"><span aria-hidden="true">✗ </span>Worked example: the model makes a mistake here</p>` : null}
    <${FocusHeading} level=${1}>${step.question}</${FocusHeading}>
    ${Object.entries(step.options).length
      ? html`<ul class="options">${Object.entries(step.options).map(([letter, text]) => html`<li><b>${letter}</b> ${text}</li>`)}</ul>`
      : null}
    ${reveal
      ? html`<${RevealView} step=${step} reveal=${reveal} store=${store} learner=${learner} onChange=${onChange} />`
      : html`<${GuessView} step=${step} store=${store} learner=${learner} onChange=${onChange} />`}
    ${reveal || onBack ? html`<nav class="step-nav" aria-label="Questions">
      ${onBack ? html`<button type="button" onClick=${onBack}>Back</button>` : html`<span></span>`}
      ${reveal ? html`<button type="button" class="primary" onClick=${onNext}>${step.number < total ? "Next question" : "Finish"}</button>` : null}
    </nav>` : null}
  </article>`;
}

// --- guess ---

function GuessView({ step, store, learner, onChange }) {
  const setGuess = (guess) => onChange({ guess });
  const isChoice = step.pictures.length > 1;
  const words = guessInWords(step, learner.guess);
  return html`<form class="guess" onSubmit=${(event) => { event.preventDefault(); if (learner.guess) onChange({ isCommitted: true }); }}>
    <p class="task"><b>1. Guess.</b> ${isChoice
      ? `Which ${pictureName(step)} would you look at closer?`
      : "Where would you look closer? Tap the picture, or draw a box on it."}</p>
    ${isChoice
      ? html`<${PictureChoice} step=${step} store=${store} guess=${learner.guess} onGuess=${setGuess} />`
      : html`<${PlaceChoice} step=${step} store=${store} guess=${learner.guess} onGuess=${setGuess} />`}
    <p class="said" role="status">${words ? `Your guess: ${words}` : ""}</p>
    <label class="field">Your answer without looking closer <span class="soft">(you may guess, or leave it empty)</span>
      <input type="text" autocomplete="off" value=${learner.answer} onInput=${(event) => onChange({ answer: event.target.value })} /></label>
    <button type="submit" class="primary" aria-disabled=${learner.guess ? "false" : "true"} aria-describedby="commit-hint">Show where the model looked</button>
    <p class="soft" id="commit-hint">${learner.guess ? "You can change your guess until then." : "First choose a place."}</p>
  </form>`;
}

function PlaceChoice({ step, store, guess, onGuess }) {
  const [picture] = step.pictures;
  const start = useRef(null);
  const fraction = (event) => {
    const frame = event.currentTarget.getBoundingClientRect();
    return [clamp((event.clientX - frame.left) / frame.width, 0, 1), clamp((event.clientY - frame.top) / frame.height, 0, 1)];
  };
  const onPointerDown = (event) => {
    if (event.button) return;
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    start.current = { at: fraction(event), x: event.clientX, y: event.clientY };
  };
  const drawn = (event) => {
    const [first, last] = [start.current.at, fraction(event)];
    return [Math.min(first[0], last[0]), Math.min(first[1], last[1]), Math.max(first[0], last[0]), Math.max(first[1], last[1])];
  };
  const isDrag = (event) => Math.abs(event.clientX - start.current.x) > MIN_DRAG_PX && Math.abs(event.clientY - start.current.y) > MIN_DRAG_PX;
  const onPointerMove = (event) => {
    if (start.current && isDrag(event)) onGuess({ box: drawn(event) });
  };
  const onPointerUp = (event) => {
    if (!start.current) return;
    onGuess({ box: isDrag(event) ? drawn(event) : around(start.current.at) });
    start.current = null;
  };
  return html`<div class="place">
    <div class="canvas guess-area" style=${{ "--ratio": picture.px[0] / picture.px[1] }} onPointerDown=${onPointerDown} onPointerMove=${onPointerMove}
      onPointerUp=${onPointerUp} onPointerCancel=${() => { start.current = null; }}>
      <img src=${store.src(picture.ref)} width=${picture.px[0]} height=${picture.px[1]} alt=${picture.alt} draggable="false" />
      ${guess?.box ? html`<${Boxes} marks=${[{ box: guess.box, kind: "mine", label: "you" }]} />` : null}
    </div>
    <${Pad} guess=${guess} onGuess=${onGuess} />
  </div>`;
}

function around([x, y]) {
  const half = TAP_SIDE / 2;
  const left = clamp(x - half, 0, 1 - TAP_SIDE);
  const top = clamp(y - half, 0, 1 - TAP_SIDE);
  return [left, top, left + TAP_SIDE, top + TAP_SIDE];
}

/** Nine parts of the picture as radio buttons: arrow keys move between them. */
function Pad({ guess, onGuess }) {
  const chosen = guess?.cell ?? "";
  return html`<fieldset class="pad"><legend>Or choose a part of the picture</legend>
    <div class="pad-grid">${ROWS.flatMap((_row, y) => COLUMNS.map((_column, x) => {
      const name = cellName(y, x);
      const box = [x / 3, y / 3, (x + 1) / 3, (y + 1) / 3];
      return html`<label key=${name}><input type="radio" name="place" value=${name} checked=${chosen === name}
        onChange=${() => onGuess({ box, cell: name })} /><span>${name}</span></label>`;
    }))}</div>
  </fieldset>`;
}

function PictureChoice({ step, store, guess, onGuess }) {
  return html`<fieldset class="choices"><legend class="offscreen">Choose a ${pictureName(step)}</legend>
    ${step.pictures.map((picture, index) => html`<label key=${picture.ref}>
      <input type="radio" name="image" value=${index + 1} checked=${guess?.image === index + 1} onChange=${() => onGuess({ image: index + 1 })} />
      <img src=${store.src(picture.ref)} width=${picture.px[0]} height=${picture.px[1]} alt=${picture.alt} />
      <span aria-hidden="true">${index + 1}</span>
    </label>`)}
  </fieldset>`;
}

// --- reveal ---

function RevealView({ step, reveal, store, learner, onChange }) {
  const result = compareGuess(step, reveal, learner.guess);
  return html`<section class="reveal">
    <${FocusHeading} level=${2}>2. Where the model looked</${FocusHeading}>
    <p class=${classes("result", result.kind)}><span aria-hidden="true">${result.kind === "same" ? "★ " : "→ "}</span>${resultInWords(step, result)}</p>
    <${MarkedPictures} step=${step} reveal=${reveal} store=${store} guess=${learner.guess} />
    <ol class="looks">${reveal.looks.map((look) => html`<${LookView} key=${look.number} look=${look} store=${store} />`)}</ol>
    ${reveal.before && reveal.after ? html`<${Comparison} reveal=${reveal} store=${store} learner=${learner} />` : null}
    <${AnswerView} step=${step} reveal=${reveal} learner=${learner} />
    <label class="field explain"><b>3. Explain.</b> ${step.prompt}
      <textarea rows="3" value=${learner.words} onInput=${(event) => onChange({ words: event.target.value })}></textarea>
      <span class="soft">Your words stay in this browser.</span></label>
  </section>`;
}

function MarkedPictures({ step, reveal, store, guess }) {
  const shown = shownNumbers(step, reveal, guess);
  return html`<div class=${classes("marked", shown.length > 1 && "several")}>${shown.map((number) => {
    const picture = step.pictures[number - 1];
    // The box of the learner comes first: the numbers of the model are drawn over it.
    const mine = guess.box ? [{ box: guess.box, kind: "mine", label: "you" }] : [];
    const marks = [...mine, ...reveal.looks.flatMap((look) => lookMarks(look, number))];
    const isMine = guess.image === number;
    const looks = reveal.looks.filter((look) => look.frames.includes(number));
    const isLooked = looks.length > 0;
    const isWrong = isLooked && looks.every((look) => look.verdict === "wrong");
    const places = reveal.looks.filter((look) => look.box && look.image === number).map((look) => `look ${look.number} in the ${look.place}`);
    const alt = places.length ? `${picture.alt}. Boxes: ${places.join("; ")}` : picture.alt;
    return html`<figure key=${number} class=${classes(isLooked && "chosen")}><div class="canvas">
      <img src=${store.src(picture.ref)} width=${picture.px[0]} height=${picture.px[1]} alt=${alt} /><${Boxes} marks=${marks} /></div>
      <figcaption>${step.pictures.length > 1 ? html`<b>${pictureName(step)} ${number}</b>${isLooked ? `: the model looked here${isWrong ? " ✗" : ""}` : ""}${isMine ? " · your guess" : ""}`
        : html`Solid boxes: the model. Dashed box: <b>you</b> (${guessInWords(step, guess)}).`}</figcaption></figure>`;
  })}</div>`;
}

/** Question pictures that are shown at the reveal: all looked at, the guess, and those that matter. */
function shownNumbers(step, reveal, guess) {
  if (step.pictures.length === 1) return [1];
  const looked = reveal.looks.flatMap((look) => (look.frames.length ? look.frames : look.pictures.length ? [look.image] : []));
  const numbers = [guess.image, ...looked, ...reveal.target_frames].filter((one) => one && one <= step.pictures.length);
  return [...new Set(numbers)].sort((first, second) => first - second);
}

function lookMarks(look, number) {
  if (!look.box || look.image !== number) return [];
  return [{ box: look.box, turn: look.number, label: `${look.number} ${SIGN[look.verdict]}`.trim(), kind: look.verdict }];
}

function LookView({ look, store }) {
  const isWrong = look.verdict === "wrong";
  const placeName = look.frames.length ? "frame" : "place";
  return html`<li class=${classes("look", turnClass(look.number), look.verdict)}>
    <p class="look-head"><span class="badge">${look.number}</span> <b>${look.action}</b>${look.place ? html`, <span>${look.place}</span>` : null}
      ${look.verdict === "unknown" ? null : html` <span class=${classes("mark", look.verdict)}>${isWrong ? (look.problem ? "✗ rejected" : `✗ wrong ${placeName}`) : `✓ right ${placeName}`}</span>`}</p>
    ${look.words ? html`<p class="quote">“${look.words}”</p>` : null}
    ${look.problem ? html`<p class="soft">${look.problem}</p>` : null}
    <div class="look-pictures">${look.pictures.map((picture) => html`<img key=${picture.ref} src=${store.src(picture.ref)} width=${picture.px[0]}
      height=${picture.px[1]} alt=${picture.alt} />`)}</div>
  </li>`;
}

function Comparison({ reveal, store, learner }) {
  return html`<div class="compare"><h3>Without and with looking</h3><div class="pair-of">
    ${[["Without looking", reveal.before, learner.answer ? `Your answer then: ${learner.answer}` : ""],
      ["With looking", reveal.after, ""]].map(([title, picture, more]) => html`<figure key=${title}>
        <img src=${store.src(picture.ref)} width=${picture.px[0]} height=${picture.px[1]} alt=${picture.alt} />
        <figcaption><b>${title}</b>${more ? html`<br />${more}` : null}</figcaption></figure>`)}
  </div></div>`;
}

function AnswerView({ step, reveal, learner }) {
  const outcome = reveal.is_right === null ? "" : reveal.is_right ? "right" : "wrong";
  const mistakes = reveal.looks.filter((look) => look.verdict === "wrong").map((look) => look.number);
  return html`<div class="answer">
    ${reveal.conclusion ? html`<p class="quote">“${reveal.conclusion}”</p>` : null}
    <p>The model's answer: <b>${reveal.answer || "none"}</b> ${outcome ? html`<span class=${classes("mark", outcome)}>${outcome === "right" ? "✓ right" : "✗ wrong"}</span>` : null}</p>
    ${outcome === "wrong" && reveal.expected ? html`<p>The correct answer: <b>${reveal.expected}</b></p>` : null}
    ${reveal.answer_without ? html`<p>The same model without looking: <b>${reveal.answer_without}</b>${
      reveal.is_right_without === null ? "" : reveal.is_right_without ? " (right)" : " (wrong)"}</p>` : null}
    ${learner.answer ? html`<p>Your answer without looking: <b>${learner.answer}</b></p>` : null}
    ${step.has_mistake ? html`<p class="mistake-mark"><span aria-hidden="true">✗ </span>${mistakeInWords(mistakes, reveal, outcome)}</p>` : null}
    <p class="soft">What a model writes is no proof of why it looked there. Does the picture support it?</p>
  </div>`;
}

function mistakeInWords(mistakes, reveal, outcome) {
  const looks = mistakes.length > 1 ? `looks ${mistakes.join(" and ")} were wrong` : mistakes.length ? `look ${mistakes[0]} was wrong` : "";
  const answer = outcome === "wrong" ? "the answer was wrong" : "";
  const what = [looks, answer].filter(Boolean).join(", and ");
  const correct = outcome === "wrong" ? reveal.expected : reveal.answer;
  return `Remember: ${what}. ${correct ? `The correct answer is ${correct}.` : ""}`;
}

// --- end ---

function LessonEnd({ lesson, progress, onGo, onRestart }) {
  const rows = lesson.steps.map((step, number) => {
    const learner = progress.steps[number];
    const result = learner.isCommitted ? compareGuess(step, unseal(step.reveal), learner.guess) : null;
    return { step, learner, result };
  });
  const numDone = rows.filter((row) => row.result).length;
  const numSame = rows.filter((row) => row.result?.kind === "same").length;
  const numWords = rows.filter((row) => row.learner.words.trim()).length;
  const open = rows.findIndex((row) => !row.result);
  return html`<section class="card">
    <${FocusHeading} level=${1}>You finished the lesson</${FocusHeading}>
    <dl class="numbers">
      <div><dt>Questions done</dt><dd>${numDone} of ${rows.length}</dd></div>
      <div><dt>Guesses at a place that matters</dt><dd>${numSame} of ${numDone}</dd></div>
      <div><dt>Explained in own words</dt><dd>${numWords} of ${rows.length}</dd></div>
    </dl>
    <ol class="summary">${rows.map(({ step, learner, result }) => html`<li key=${step.number}>
      <p><b>${step.question}</b></p>
      <p>${result ? `Your guess: ${guessInWords(step, learner.guess)}. ${resultInWords(step, result)}` : "Not done yet."}</p>
      ${learner.words.trim() ? html`<p class="quote">${learner.words}</p>` : null}
      <button type="button" class="plain" onClick=${() => onGo(step.number - 1)}>Open question ${step.number}</button>
    </li>`)}</ol>
    <div class="step-nav">
      <button type="button" onClick=${onRestart}>Start again <span class="soft">(deletes your words)</span></button>
      ${open >= 0 ? html`<button type="button" class="primary" onClick=${() => onGo(open)}>Go to question ${open + 1}</button>`
        : html`<button type="button" class="primary" onClick=${() => saveWords(lesson, rows)}>Save my words as a file</button>`}
    </div>
  </section>`;
}

function saveWords(lesson, rows) {
  const text = [lesson.title, "", ...rows.flatMap(({ step, learner, result }) => [
    `${step.number}. ${step.question}`,
    `My guess: ${guessInWords(step, learner.guess)}. ${result ? resultInWords(step, result) : ""}`,
    `My answer without looking: ${learner.answer || "-"}`,
    `My words: ${learner.words.trim() || "-"}`,
    "",
  ])].join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = "my-words.txt";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
