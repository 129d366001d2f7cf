// The open trace: guess, agreement, the steps, files to share, and a follow-up question.

function OpenTrace({ open, api, guess, onGuess, actions, isHidden }) {
  const item = useMemo(() => itemOf(open), [open]);
  const store = useMemo(() => traceStore(api, open.id), [open.id]);
  const isWaiting = open.isRunning && !open.traces.some((one) => one.turns?.length) && !Object.keys(open.growing).length;
  return html`<section class=${classes("result-view", open.isRunning && "is-running")} aria-label="Answer" aria-busy=${open.isRunning}>
    ${guess.isOn ? html`<${Guess} open=${open} guess=${guess} onGuess=${onGuess} />` : null}
    ${isHidden ? null : html`
      ${open.job.follows ? html`<button type="button" class="plain previous" onClick=${() => actions.openTrace(open.job.follows)}>← the question before</button>` : null}
      ${open.isRunning ? null : html`<${Agreement} traces=${open.traces} />`}
      <${ItemView} item=${item} store=${store} />
      ${isWaiting ? html`<p class="waiting" aria-hidden="true">The model opens the picture …</p>` : null}
      ${open.error ? html`<p class="error"><b>It did not finish.</b> ${open.error}</p>` : null}
      ${open.isRunning ? null : html`<p class="soft answered-by">Answered by ${open.job.model}.</p><${Files} open=${open} api=${api} actions=${actions} /><${FollowUp} open=${open} actions=${actions} />`}`}
  </section>`;
}

/** How often each answer was given, with and without operations. */
function Agreement({ traces }) {
  const groups = new Map(); // title -> answers
  for (const trace of traces) {
    const title = (trace.name ?? "").replace(/,? ?answer \d+$/, "");
    groups.set(title, [...(groups.get(title) ?? []), trace.answered ?? "no answer"]);
  }
  return [...groups].filter(([, answers]) => answers.length > 1).map(([title, answers]) => html`<div class="agreement">
    <h2>${answers.length} answers${title ? ` ${title}` : ""}</h2><dl>${counted(answers).map(([answer, count]) => html`<div>
    <dt>${answer}</dt><dd><span class="share" style=${{ width: percent(count / answers.length) }}></span><b>${count} of ${answers.length}</b></dd></div>`)}</dl></div>`);
}

/** Values with their counts, the most frequent first. */
function counted(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1]);
}

/** Education mode: the user draws a box before the model's box is shown. */
function Guess({ open, guess, onGuess }) {
  const model = firstBox(open);
  if (!guess.isDone) {
    return html`<div class="guess"><h2>Where would you look?</h2><p>${open.question.text}</p>
      <${BoxPicker} src=${guess.address} alt="picture of the question" box=${guess.box} label="Draw your box" onBox=${(box) => onGuess({ box })} />
      <div class="buttons"><button type="button" class="primary" disabled=${!guess.box} onClick=${() => onGuess({ isDone: true })}>Show where the model looks</button>
        <button type="button" onClick=${() => onGuess({ isOn: false })}>skip</button></div></div>`;
  }
  const overlap = model ? boxOverlap(guess.box, model) : 0;
  let verdict = html`<p class="soft">The model has not looked closer${open.isRunning ? " yet" : ": it answered from the first view"}.</p>`;
  if (model) verdict = html`<p><b>Overlap ${percent(overlap).replace(/\.\d+/, "")}</b> <span class="soft">(intersection over union) ${overlapInWords(overlap, guess.box, model)}</span></p>`;
  return html`<div class="guess done"><h2>You and the model</h2>
    <div class="canvas"><img src=${guess.address} alt="picture with your box and the box of the model" />
      <${Boxes} marks=${[{ box: guess.box, kind: "own", label: "you" }, ...(model ? [{ box: model, turn: 1, label: "model" }] : [])]} /></div>${verdict}</div>`;
}

function overlapInWords(overlap, own, model) {
  if (overlap >= 0.5) return "You looked at the same place.";
  if (overlap > 0.1) return "You looked at nearly the same place.";
  const inside = model[0] >= own[0] && model[1] >= own[1] && model[2] <= own[2] && model[3] <= own[3];
  return inside ? "The model looked at a smaller part of your box." : "The model looked somewhere else.";
}

// --- files and sharing ---

const FILES = [["page", "HTML page", "html"], ["strip", "PNG", "png"], ["animation", "GIF", "gif"]];

function Files({ open, api, actions }) {
  const [address, setAddress] = useState(open.job.share_path ? location.origin + open.job.share_path : "");
  const [busy, setBusy] = useState("");
  const [problem, setProblem] = useState("");
  const attempt = async (name, work) => {
    setBusy(name);
    setProblem("");
    try {
      await work();
    } catch (error) {
      setProblem(error.message);
    }
    setBusy("");
  };
  const save = (name, suffix) => attempt(name, async () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await api.file(`/v1/traces/${open.id}/${name}`));
    link.download = `trace-${open.id.slice(0, 8)}.${suffix}`;
    link.click();
  });
  const share = () => attempt("share", async () => setAddress(location.origin + (await api.post(`/v1/traces/${open.id}/share`)).path));
  const unshare = () => attempt("share", async () => {
    await api.remove(`/v1/traces/${open.id}/share`);
    setAddress("");
  });
  return html`<div class="files" role="group" aria-label="Save and share">
    <span class="soft">Save as</span>
    ${FILES.map(([name, label, suffix]) => html`<button type="button" disabled=${Boolean(busy)} onClick=${() => save(name, suffix)}>${busy === name ? "…" : label}</button>`)}
    ${address
      ? html`<span class="shared"><label>Public link <input readonly value=${address} onFocus=${(event) => event.target.select()} /></label>
          <${CopyButton} label="copy" text=${() => address} /><button type="button" onClick=${unshare}>end sharing</button></span>`
      : html`<button type="button" disabled=${Boolean(busy)} onClick=${share}>share a link</button>`}
    <button type="button" class="delete" onClick=${() => actions.deleteTrace(open.id)}>delete</button>
    ${problem ? html`<p class="error" role="alert">${problem}</p>` : null}
  </div>`;
}

function FollowUp({ open, actions }) {
  const [text, setText] = useState("");
  if (open.job.state !== "finished") return null;
  const ask = (event) => {
    event.preventDefault();
    if (text.trim()) actions.follow(open.id, text.trim());
  };
  return html`<form class="follow-up" onSubmit=${ask}><label><span>Ask further about the same ${open.traces[0].media?.some((one) => one.kind !== "image") ? "clip" : "picture"}</span>
    <input value=${text} onInput=${(event) => setText(event.target.value)} autocomplete="off" /></label><button type="submit" disabled=${!text.trim()}>Ask</button></form>`;
}
