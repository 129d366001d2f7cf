// The question: text, options, and the button that asks or stops.

const DEFAULTS = { without: false, repeat: 1, temperature: "", turns: "", operations: true, guess: false };
const MAX_REPEATS = 8;

function Composer({ state, actions, isRunning, canAsk, questionBox }) {
  const { media, question, options, hint, isHinting } = state;
  const set = (changes) => actions.set({ options: { ...options, ...changes } });
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (canAsk) actions.ask();
  };
  return html`<form class="composer" aria-label="Ask about pictures and clips" onSubmit=${(event) => { event.preventDefault(); if (canAsk) actions.ask(); }}>
    <${MediaField} media=${media} hint=${hint} isHinting=${isHinting} onMedia=${actions.addMedia} onRemove=${actions.removeMedium}
      onHint=${(box) => actions.set({ hint: box })} onHinting=${(on) => actions.set({ isHinting: on })} onCamera=${() => actions.set({ isCamera: true })} />
    <label class="question-field"><span>Question</span>
      <textarea ref=${questionBox} rows="2" value=${question} onInput=${(event) => actions.set({ question: event.target.value })} onKeyDown=${onKeyDown}
        placeholder="What does the small sign say?"></textarea></label>
    <div class="buttons">
      ${isRunning
        ? html`<button type="button" class="primary stop" onClick=${actions.stop}>Stop <kbd>Esc</kbd></button>`
        : html`<button type="submit" class="primary" disabled=${!canAsk}>Ask <kbd>Enter</kbd></button>`}
    </div>
    <${OptionFields} options=${options} onSet=${set} hasPicture=${media.length === 1 && !media[0].isVideo} />
  </form>`;
}

function OptionFields({ options, onSet, hasPicture }) {
  const isChanged = JSON.stringify(options) !== JSON.stringify(DEFAULTS);
  const check = (name, text, note, isDisabled) => html`<label class="check"><input type="checkbox" checked=${options[name]} disabled=${isDisabled}
    onChange=${(event) => onSet({ [name]: event.target.checked })} /><span>${text}<small>${note}</small></span></label>`;
  return html`<details class="options-field"><summary>Settings${isChanged ? html` <span class="changed">changed</span>` : null}</summary>
    ${check("guess", "Guess first", `Draw where you would look, before you see where the model looks.${hasPicture ? "" : " Needs one picture."}`, !hasPicture)}
    ${check("without", "Compare without operations", "Ask a second time without zooming in, next to the first.")}
    ${check("operations", "Let the model zoom in", "Off: it answers from what it sees at first.")}
    <label class="line"><span>Ask several times<small>Shows how often the answers agree.</small></span>
      <input type="number" min="1" max=${MAX_REPEATS} value=${options.repeat} onInput=${(event) => onSet({ repeat: clamp(Number(event.target.value) || 1, 1, MAX_REPEATS) })} /></label>
    <label class="line"><span>Steps at most<small>Empty: as the server is set up.</small></span>
      <input type="number" min="1" max="16" value=${options.turns} onInput=${(event) => onSet({ turns: event.target.value })} /></label>
    <label class="line"><span>Variation (temperature)<small>0: always the same answer. 1: varied.</small></span>
      <input type="number" min="0" max="2" step="0.1" value=${options.temperature} onInput=${(event) => onSet({ temperature: event.target.value })} /></label>
    ${isChanged ? html`<button type="button" class="plain" onClick=${() => onSet(DEFAULTS)}>reset</button>` : null}
  </details>`;
}

/** The body of a request, from the state of the composer and the ids of its media. */
function requestOf(state, ids, expected) {
  const { options, hint } = state;
  const found = { repeat: options.repeat, without_operations: options.without };
  if (!options.operations) found.operations = false;
  if (options.turns) found.max_turns = Number(options.turns);
  if (options.temperature !== "") found.temperature = Number(options.temperature);
  if (hint && ids.length === 1) found.hints = [{ picture: 1, box: hint.map((side) => Number(side.toFixed(4))) }];
  return { question: state.question, media: ids, expected, options: found };
}
