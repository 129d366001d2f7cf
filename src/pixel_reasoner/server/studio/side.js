// History, samples, the note about the model, the key, help and the tour.

function History({ api, version, openId, isHidden, onOpen }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(null);
  const load = async (before) => {
    const parameters = new URLSearchParams({ q: query, limit: 20, ...(before ? { before } : {}) });
    const listed = await api.json(`/v1/traces?${parameters}`);
    await api.load(listed.data.filter((one) => one.thumbnail).map((one) => traceStore(api, one.id).path(one.thumbnail)));
    setFound((earlier) => ({ ...listed, data: before ? [...earlier.data, ...listed.data] : listed.data }));
  };
  useEffect(() => {
    const timer = setTimeout(() => load().catch(() => setFound({ data: [] })), query ? 250 : 0);
    return () => clearTimeout(timer);
  }, [query, version]);
  if (!found || (!found.data.length && !query)) return null;
  return html`<section class="history" aria-labelledby="history-title"><h2 id="history-title">History</h2>
    <input type="search" value=${query} placeholder="search questions and answers" aria-label="search the history" onInput=${(event) => setQuery(event.target.value)} />
    <ul>${found.data.map((job) => html`<${HistoryRow} key=${job.id} job=${job} api=${api} isOpen=${job.id === openId} isHidden=${isHidden} onOpen=${onOpen} />`)}</ul>
    ${found.data.length ? null : html`<p class="soft">Nothing found.</p>`}
    ${found.has_more ? html`<button type="button" class="plain" onClick=${() => load(found.next_before)}>show more</button>` : null}
  </section>`;
}

const STATES = { queued: "waits", running: "runs", cancelled: "stopped", failed: "failed", interrupted: "interrupted" };

function HistoryRow({ job, api, isOpen, isHidden, onOpen }) {
  const answer = isHidden ? "hidden while you guess" : (STATES[job.state] ?? job.answer ?? "no answer");
  return html`<li><button type="button" aria-current=${isOpen ? "true" : undefined} onClick=${() => onOpen(job.id)}>
    ${job.thumbnail && !isHidden ? html`<img src=${traceStore(api, job.id).src(job.thumbnail)} alt="" loading="lazy" />` : html`<span class="no-picture" aria-hidden="true"></span>`}
    <span class="texts"><span class="q">${job.question}</span><span class="a">${answer}</span></span></button></li>`;
}

// --- the first view ---

function Intro({ info, api, onSample, onConnect }) {
  return html`<section class="intro">
    <h2>Ask about a picture. Watch where the model looks.</h2>
    <p class="lead">It sees your picture small at first. When it needs detail, it zooms in on the original, and you see every step.</p>
    <${Samples} info=${info} api=${api} onSample=${onSample} />
    <${ModelNote} info=${info} onConnect=${onConnect} />
  </section>`;
}

function Samples({ info, api, onSample }) {
  if (!info?.samples?.length) return null;
  return html`<h3 id="samples-title">${info.is_bundled ? "Samples that the bundled model solves" : "Samples"}</h3>
    <ul class="samples" aria-labelledby="samples-title">${info.samples.map((sample) => html`<li><button type="button" onClick=${() => onSample(sample)}>
      <img src=${api.src(sample.thumbnail)} alt="" width="320" height="320" /><span class="kind">${sample.title}</span><span class="q">${sample.question}</span></button></li>`)}</ul>`;
}

function ModelNote({ info, onConnect }) {
  if (!info) return null;
  return html`<aside class="model-note" aria-label="About the model">
    ${info.is_bundled
      ? html`<h3>What this model can do</h3>
          <p>The bundled model has 2.3 million parameters and runs on any computer. It <b>can</b> read letters, digits and words, count and compare in the drawn
          scenes, charts and clips of PixelWorld, like the samples. It <b>cannot</b> answer questions about photos, documents or anything else: it will guess.</p>
          <h3>Use a real model</h3>
          <p>If a server with the API of OpenAI serves one, such as vLLM:</p>
          <p><button type="button" onClick=${onConnect}>connect a model</button></p>
          <p>Or start this server with it:</p>
          <pre tabindex="0">pixel-reasoner serve --model FOLDER
pixel-reasoner serve --model Qwen/Qwen2.5-VL-7B-Instruct \\
  --endpoint http://localhost:8000/v1</pre>`
      : html`<h3>The model</h3><p><b>${info.model}</b> answers. It can be wrong: look at the boxes and crops to see what an answer is based on.</p>`}
  </aside>`;
}

function KeyForm({ onKey, problem }) {
  const [text, setText] = useState("");
  return html`<form class="key-form" onSubmit=${(event) => { event.preventDefault(); onKey(text.trim()); }}>
    <h2>This server needs a key</h2><p class="soft">The page keeps it in memory only. After a reload you enter it again.</p>
    <label><span>Key</span><input type="password" autocomplete="off" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <button type="submit" class="primary" disabled=${!text.trim()}>Continue</button>
    ${problem ? html`<p class="error" role="alert">${problem}</p>` : null}</form>`;
}

// --- help and tour ---

const STUDIO_KEYS = [["Enter", "ask (Shift+Enter: new line)"], ["Esc", "stop"], ["n", "next step with a box"], ["b", "boxes on or off"], ["?", "this help"]];

function StudioHelp({ onClose, onTour }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const list = (rows) => html`<dl>${rows.map(([key, words]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${words}</dd></div>`)}</dl>`;
  return html`<dialog class="help" ref=${dialog} onClose=${onClose} aria-labelledby="help-title"><h2 id="help-title">Keys</h2>${list(STUDIO_KEYS)}
    <h3>Picture view</h3>${list(ZOOM_HELP)}
    <p>Pictures, questions and answers stay on this server. Only who has a public link can see a trace that you share.</p>
    <div class="buttons"><button type="button" onClick=${() => dialog.current.close()}>close</button>
      <button type="button" onClick=${() => { dialog.current.close(); onTour(); }}>show the tour</button></div></dialog>`;
}

const TOUR = [
  ["Choose a picture", "Drop, paste or pick a picture or clip, use the camera, or start with a sample.", ".media-field"],
  ["Ask", "Type a question and press Enter. Under Settings you can compare, repeat, or guess first.", ".question-field"],
  ["Watch", "The steps appear here: a box on the picture, and what the model saw in it. You can stop at any time.", ".stage-area"],
];
const TOUR_SEEN = "pixel-reasoner-tour";

function hasSeenTour() {
  try {
    return Boolean(localStorage.getItem(TOUR_SEEN));
  } catch {
    return true;
  }
}

function Tour({ onClose }) {
  const [step, setStep] = useState(0);
  const [title, text, target] = TOUR[step];
  useEffect(() => {
    const shown = document.querySelector(target);
    shown?.classList.add("tour-target");
    return () => shown?.classList.remove("tour-target");
  }, [step]);
  const close = () => {
    try {
      localStorage.setItem(TOUR_SEEN, "1");
    } catch {
      // Without storage it is shown again.
    }
    onClose();
  };
  return html`<aside class="tour" role="region" aria-labelledby="tour-title"><p class="soft">${step + 1} of ${TOUR.length}</p><h2 id="tour-title">${title}</h2><p>${text}</p>
    <div class="buttons">${step + 1 < TOUR.length ? html`<button type="button" class="primary" onClick=${() => setStep(step + 1)}>next</button>` : html`<button type="button" class="primary" onClick=${close}>start</button>`}
      <button type="button" onClick=${close}>skip</button></div></aside>`;
}
