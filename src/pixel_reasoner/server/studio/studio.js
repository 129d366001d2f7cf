// The page: state, actions, keys.

const STATUS_MS = 5000;
const NARROW = "(max-width: 60rem)";
const EMPTY_QUESTION = { media: [], question: "", expected: null, asked: "", hint: null, isHinting: false, isCamera: false, options: DEFAULTS };
const NO_GUESS = { isOn: false, isDone: false, box: null, address: "" };

function Studio({ api }) {
  const [state, setState] = useState(EMPTY_QUESTION);
  const [open, setOpen] = useState(null);
  const [guess, setGuess] = useState(NO_GUESS);
  const [problem, setProblem] = useState("");
  const [spoken, setSpoken] = useState("");
  const [version, setVersion] = useState(0); // of the history
  const [hasBoxes, setBoxes] = useState(true);
  const [isHelp, setHelp] = useState(false);
  const [isTour, setTour] = useState(() => !hasSeenTour());
  const [isBusy, setBusy] = useState(false);
  const [isConnecting, setConnecting] = useState(false);
  const [isChoosing, setChoosing] = useState(false); // of a lesson
  const [lesson, setLesson] = useState(null);
  const [connected, setConnected] = useConnected(api);
  const [own, status, connect] = useServer(api);
  const info = useMemo(() => own && connected ? { ...own, model: connected.model, is_bundled: false } : own, [own, connected]);
  const listening = useRef(null);
  const questionBox = useRef(null);
  const set = (changes) => setState((before) => ({ ...before, ...changes }));
  const context = { api, state, set, open, setOpen, setGuess, setProblem, setSpoken, setVersion, setBusy, setConnected, listening, questionBox };
  const actions = createActions(context);
  const isOver = useDropped(actions.addMedia);
  useEffect(() => {
    const follow = () => {
      const id = new URLSearchParams(location.hash.slice(1)).get("trace");
      if (id && info) actions.openTrace(id);
    };
    follow();
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, [Boolean(info)]);
  useStudioKeys({ stop: () => open?.isRunning && actions.stop(), toggleBoxes: () => setBoxes(!hasBoxes), help: () => setHelp(true) });
  const isRunning = Boolean(open?.isRunning) || isBusy;
  const isGuessing = guess.isOn && !guess.isDone;
  const canAsk = !isRunning && Boolean(state.question.trim()) && Boolean(info);
  if (lesson) return html`<${LessonApp} lesson=${lesson} onClose=${() => setLesson(null)} />`;
  return html`<div class=${classes("studio", isOver && "is-over", !hasBoxes && "no-boxes")}>
    <${Top} info=${info} status=${status} isConnected=${Boolean(connected)} onHelp=${() => setHelp(true)} onNew=${actions.startNew} onConnect=${() => setConnecting(true)} onLesson=${() => setChoosing(true)} hasOpen=${Boolean(open)} />
    ${status.needsKey
      ? html`<main class="key-area"><${KeyForm} onKey=${connect} problem=${status.problem} /></main>`
      : html`<main class="work">
          <div class="left"><${Composer} state=${state} actions=${actions} isRunning=${isRunning} canAsk=${canAsk} questionBox=${questionBox} />
            ${problem ? html`<p class="error" role="alert">${problem}</p>` : null}</div>
          <div class="stage-area">${open
            ? html`<${OpenTrace} open=${open} api=${api} guess=${guess} onGuess=${(changes) => setGuess((before) => ({ ...before, ...changes }))} actions=${actions} isHidden=${isGuessing} />`
            : html`<${Intro} info=${info} api=${api} onSample=${actions.useSample} onConnect=${() => setConnecting(true)} />`}</div>
          <div class="below"><${History} api=${api} version=${version} openId=${open?.id} isHidden=${isGuessing} onOpen=${actions.openTrace} /></div>
        </main>`}
    <p class="offscreen" role="status" aria-live="polite">${isGuessing ? "" : spoken}</p>
    ${isOver ? html`<p class="over" aria-hidden="true">Drop the picture or clip</p>` : null}
    ${state.isCamera ? html`<${CameraDialog} onMedium=${(one) => actions.addMedia([one])} onClose=${() => set({ isCamera: false })} />` : null}
    ${isConnecting && own ? html`<${ConnectDialog} api=${api} info=${own} connected=${connected} onConnected=${setConnected} onClose=${() => setConnecting(false)} />` : null}
    ${isChoosing ? html`<${LessonDialog} api=${api} onLesson=${(found) => { setChoosing(false); setLesson(found); }} onClose=${() => setChoosing(false)} />` : null}
    ${isHelp ? html`<${StudioHelp} onClose=${() => setHelp(false)} onTour=${() => setTour(true)} />` : null}
    ${isTour && !status.needsKey && info ? html`<${Tour} onClose=${() => setTour(false)} />` : null}
  </div>`;
}

function Top({ info, status, isConnected, onHelp, onNew, onConnect, onLesson, hasOpen }) {
  return html`<header class="top"><h1><a href="#" onClick=${(event) => { event.preventDefault(); onNew(); }}>Pixel Reasoner <span>Studio</span></a></h1>
    <p class=${classes("model-status", status.kind)} role="status"><span class="light" aria-hidden="true"></span><span class="text">${info ? html`<b>${info.model}</b> ` : null}${isConnected && status.kind === "ready" ? "connected" : status.text}</span></p>
    <nav aria-label="page">${info && !hasOpen ? html`<button type="button" onClick=${onLesson}>lessons</button>` : null}${info ? html`<button type="button" onClick=${onConnect} aria-label=${isConnected ? "change the model" : "connect a model"}><span class="wide">${isConnected ? "change the " : "connect a "}</span>model</button>` : null}${hasOpen ? html`<button type="button" onClick=${onNew} aria-label="new question">new<span class="wide"> question</span></button>` : null}
      <button type="button" class="help-button" onClick=${onHelp} aria-label="help">?</button></nav></header>`;
}

/** The connected model, and a function that replaces it; null for the model of the server. */
function useConnected(api) {
  const [connected, setConnected] = useState(null);
  const replace = (found) => {
    if (connected) api.remove("/v1/connections").catch(() => {}); // its key is forgotten
    api.setConnection(found?.id ?? "");
    setConnected(found);
  };
  return [connected, replace];
}

/** What the server offers, and whether it is ready. Returns [info, status, connect(key)]. */
function useServer(api) {
  const [info, setInfo] = useState(null);
  const [status, setStatus] = useState({ kind: "waits", text: "connecting …" });
  const check = async () => {
    try {
      const found = info ?? (await api.json("/v1/studio"));
      if (!info) {
        await api.load(found.samples.map((one) => one.thumbnail));
        setInfo(found);
      }
      await api.json("/ready");
      setStatus({ kind: "ready", text: "ready" });
    } catch (error) {
      if (error.status === 401) setStatus({ kind: "waits", text: "needs a key", needsKey: true, problem: api.hasKey() ? "This key is not valid." : "" });
      else if (error.status === 503) setStatus({ kind: "waits", text: error.message });
      else setStatus({ kind: "failed", text: error.status ? error.message : "no connection" });
    }
  };
  useEffect(() => {
    if (status.needsKey) return undefined;
    if (status.text === "connecting …") check();
    const timer = setInterval(() => document.hidden || check(), status.kind === "ready" ? 3 * STATUS_MS : STATUS_MS / 5);
    return () => clearInterval(timer);
  }, [status.kind, status.needsKey, Boolean(info)]);
  const connect = (key) => {
    api.setKey(key);
    return check();
  };
  return [info, status, connect];
}

function createActions(context) {
  const { api, state, set, open, setOpen, setGuess, setProblem, setSpoken, setVersion, setBusy, setConnected, listening, questionBox } = context;

  /** Show a trace and follow its events. */
  const follow = async (job) => {
    listening.current?.abort();
    const control = new AbortController();
    listening.current = control;
    const store = traceStore(api, job.id);
    setOpen(openJob(job));
    setProblem("");
    history.replaceState(null, "", `#trace=${job.id}`);
    const show = async (change, item) => {
      if (item) await api.load(refsOf(item).map(store.path));
      if (!control.signal.aborted) setOpen((before) => (before?.id === job.id ? change(before) : before));
    };
    const fetchItem = () => api.json(`/v1/traces/${job.id}/item`);
    try {
      await api.events(job.id, async (type, data) => {
        const words = announcement(type, data);
        if (words) setSpoken(words);
        if (data.is_truncated) data.trace = (await fetchItem()).traces[data.run];
        await show((before) => afterEvent(before, type, data), data.trace ? { traces: [data.trace] } : null);
        if (type !== "finished" && type !== "error") return;
        const [item, ended] = await Promise.all([fetchItem(), api.json(`/v1/traces/${job.id}`)]);
        await show((before) => ({ ...before, job: ended, traces: item.traces, question: item.question }), item);
      }, control.signal);
    } catch (error) {
      if (!control.signal.aborted) setOpen((before) => before && { ...before, isRunning: false, error: error.message });
    }
    setVersion((before) => before + 1);
  };

  const attempt = async (work) => {
    setBusy(true);
    setProblem("");
    try {
      return await work();
    } catch (error) {
      if (error.code === "connection_not_found") setConnected(null);
      setProblem(error.message);
      return null;
    } finally {
      setBusy(false);
    }
  };

  return {
    set,
    addMedia(found) {
      if (!found.length) return setProblem("Only pictures and clips can be used.");
      setProblem("");
      set({ media: [...state.media, ...found], hint: null, isHinting: false, expected: null });
      return questionBox.current?.focus();
    },
    removeMedium: (index) => set({ media: state.media.filter((_, at) => at !== index), hint: null, isHinting: false, expected: null }),
    async useSample(sample) {
      const file = await attempt(() => api.file(sample.media));
      if (!file) return;
      const medium = mediumOf(new File([file], sample.id, { type: file.type }), sample.title);
      set({ media: [medium], question: sample.question, expected: sample.expected, asked: sample.question, hint: null, isHinting: false });
      questionBox.current?.focus();
    },
    async ask() {
      const job = await attempt(async () => {
        for (const one of state.media) one.id ??= await api.upload(one.file);
        const expected = state.question === state.asked ? state.expected : null;
        return api.post("/v1/traces", requestOf(state, state.media.map((one) => one.id), expected));
      });
      if (!job) {
        for (const one of state.media) one.id = null; // uploads of an earlier server are gone
        return;
      }
      const isGuess = state.options.guess && state.media.length === 1 && !state.media[0].isVideo;
      setGuess(isGuess ? { ...NO_GUESS, isOn: true, address: state.media[0].address } : NO_GUESS);
      set({ isHinting: false });
      follow(job);
      scrollToAnswer();
    },
    async follow(id, question) {
      const job = await attempt(() => api.post("/v1/traces", { question, follows: id }));
      if (!job) return;
      setGuess(NO_GUESS);
      follow(job);
      scrollToAnswer();
    },
    stop: () => open && api.post(`/v1/traces/${open.id}/cancel`).catch((error) => setProblem(error.message)),
    async openTrace(id) {
      if (open?.id === id) return;
      const job = await attempt(() => api.json(`/v1/traces/${id}`));
      if (!job) return;
      setGuess(NO_GUESS);
      follow(job);
    },
    async deleteTrace(id) {
      if (!confirm("Delete this trace? Its public link ends too.")) return;
      await attempt(() => api.remove(`/v1/traces/${id}`));
      this.startNew();
      setVersion((before) => before + 1);
    },
    startNew() {
      listening.current?.abort();
      setOpen(null);
      setGuess(NO_GUESS);
      setProblem("");
      set({ ...EMPTY_QUESTION, options: state.options });
      history.replaceState(null, "", location.pathname);
      setVersion((before) => before + 1);
    },
  };
}

/** Show the beginning of the answer: on a phone it is below the question. */
function scrollToAnswer() {
  const behavior = prefersReducedMotion() ? "auto" : "smooth";
  if (!matchMedia(NARROW).matches) return scrollTo({ top: 0, behavior });
  document.activeElement?.blur(); // hides the keyboard of a phone
  return document.querySelector(".stage-area").scrollIntoView({ behavior });
}

function useStudioKeys({ stop, toggleBoxes, help }) {
  const last = useRef(-1);
  useEffect(() => {
    const nextStep = () => {
      const steps = [...document.querySelectorAll(".stage-area .turn[data-turn]")].filter((one) => one.querySelector(".result"));
      if (!steps.length) return;
      last.current = (last.current + 1) % steps.length;
      const step = steps[last.current];
      step.dispatchEvent(new PointerEvent("pointerenter"));
      step.scrollIntoView({ block: "center", behavior: prefersReducedMotion() ? "auto" : "smooth" });
      step.querySelector(".open")?.focus({ preventScroll: true });
    };
    const actions = { n: nextStep, b: toggleBoxes, "?": help };
    const onKeyDown = (event) => {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest?.("dialog")) return;
      if (event.key === "Escape") stop();
      if (target.closest?.("input, select, textarea, video") || !actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  });
}

const app = document.getElementById("app");
app.textContent = "";
render(html`<${Studio} api=${createApi()} />`, app);
