// The model of another server: address, name and key are tested by the server, and kept in memory only.

const FINDING_SIGNS = { yes: "✓", no: "✗", unknown: "?" };
const FINDING_WORDS = { yes: "yes", no: "no", unknown: "unknown" };

function ConnectDialog({ api, info, connected, onConnected, onClose }) {
  const dialog = useRef(null);
  const [fields, setFields] = useState({ endpoint: connected?.endpoint ?? "", model: connected?.model ?? "", key: "" });
  const [state, setState] = useState({ isBusy: false, problem: "", result: null });
  useEffect(() => dialog.current.showModal(), []);
  const found = useRef(null);
  useEffect(() => state.result && found.current.scrollIntoView({ block: "nearest" }), [state.result]);
  const set = (name) => (event) => setFields({ ...fields, [name]: event.target.value });
  const test = async (event) => {
    event.preventDefault();
    setState({ isBusy: true, problem: "", result: null });
    try {
      const result = await api.post("/v1/connections", { ...fields, endpoint: fields.endpoint.trim() });
      setState({ isBusy: false, problem: "", result });
      if (!result.connection) return;
      setFields({ ...fields, model: result.model, key: "" });
      onConnected({ id: result.connection, model: result.model, endpoint: fields.endpoint.trim() });
    } catch (error) {
      setState({ isBusy: false, problem: error.message.replace(/^(endpoint|model|key): /, ""), result: null });
    }
  };
  const { isBusy, problem, result } = state;
  return html`<dialog class="connect" ref=${dialog} onClose=${onClose} aria-labelledby="connect-title"><h2 id="connect-title">Connect a model</h2>
    <p class="soft">A server with the API of OpenAI: vLLM, SGLang, llama.cpp, Ollama, a provider. <${Allowed} endpoints=${info.endpoints} /></p>
    <form onSubmit=${test} aria-label="Model of another server">
      <label><span>Address</span><input type="text" inputmode="url" required spellcheck=${false} autocomplete="off" list="connect-addresses" placeholder="https://models.example.org/v1"
        value=${fields.endpoint} onInput=${set("endpoint")} /></label>
      <datalist id="connect-addresses">${info.endpoints.hosts.map((host) => html`<option value=${`http://${host}/v1`}></option>`)}</datalist>
      <label><span>Name of the model <small>may be empty if the server has one model</small></span><input type="text" spellcheck=${false} autocomplete="off" list="connect-models"
        value=${fields.model} onInput=${set("model")} /></label>
      <datalist id="connect-models">${(result?.models ?? []).map((name) => html`<option value=${name}></option>`)}</datalist>
      <label><span>Key <small>empty if it needs none; kept in memory only</small></span><input type="password" autocomplete="off" value=${fields.key} onInput=${set("key")} /></label>
      <div class="buttons"><button type="submit" class="primary" disabled=${isBusy || !fields.endpoint.trim()}>${isBusy ? "Testing …" : "Test and connect"}</button>
        ${connected ? html`<button type="button" onClick=${() => onConnected(null)}>disconnect</button>` : null}
        <button type="button" onClick=${() => dialog.current.close()}>close</button></div>
    </form>
    <div role="status" class="findings-area" ref=${found}>
      ${isBusy ? html`<p class="soft">About nine short questions are sent to it.</p>` : null}
      ${result ? html`<${Findings} result=${result} isConnected=${Boolean(result.connection && connected)} />` : null}</div>
    ${problem ? html`<${ConnectProblem} text=${problem} />` : null}</dialog>`;
}

/** An error, with the command that the operator needs on a line of its own. */
function ConnectProblem({ text }) {
  const [words, command] = text.split(/(?=pixel-reasoner serve )/);
  return html`<div class="error" role="alert">${words}${command ? html`<br /><code>${command}</code>` : null}</div>`;
}

function Findings({ result, isConnected }) {
  const chosen = result.models.slice(0, 12);
  return html`<ul class="findings">${result.findings.map((one) => html`<li class=${classes(one.state, !one.is_needed && "optional")}><span class="sign" aria-hidden="true">${one.state === "no" && !one.is_needed ? "–" : FINDING_SIGNS[one.state]}</span>
      <span><span class="offscreen">${FINDING_WORDS[one.state]}: </span>${one.text}${one.fix ? html` <b>${one.fix}</b>` : null}</span></li>`)}</ul>
    ${result.connection || !chosen.length ? null : html`<p class="soft">Its models: ${chosen.join(", ")}${result.models.length > chosen.length ? ", …" : ""}</p>`}
    ${isConnected ? html`<p class="connected"><b>Questions on this page now go to ${result.model}.</b> After a reload you connect it again.</p>` : null}`;
}

/** Which servers may be connected. */
function Allowed({ endpoints: { public: isPublic, hosts } }) {
  const option = html`<code>--allow-endpoint HOST:PORT</code>`;
  const listed = hosts.join(", ");
  if (isPublic) return html`Allowed are public servers with https${listed ? `, and ${listed}` : ""}. For one on this computer or network, start Studio with ${option}.`;
  if (listed) return html`The operator allows ${listed}.`;
  return html`The operator of this Studio allows none: it must be started with ${option}.`;
}
