// Pictures and clips of a question: dropped, pasted, picked, taken with the camera, or a sample.

/** A medium: { file, name, isVideo, address, id }. It is uploaded when a question is asked. */
function mediumOf(file, name) {
  return { file, name: name || file.name || "pasted picture", isVideo: file.type.startsWith("video/"), address: URL.createObjectURL(file), id: null };
}

function mediaOf(files) {
  return [...files].filter((file) => /^(image|video)\//.test(file.type)).map((file) => mediumOf(file));
}

/** Accept files that are dropped or pasted anywhere on the page. Returns whether files are above it. */
function useDropped(onMedia) {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const over = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event) => event.relatedTarget === null && setOver(false);
    const drop = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(false);
      onMedia(mediaOf(event.dataTransfer.files));
    };
    const paste = (event) => {
      const found = mediaOf(event.clipboardData?.files ?? []);
      if (!found.length) return;
      event.preventDefault();
      onMedia(found);
    };
    const listeners = { dragover: over, dragleave: leave, drop, paste };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  });
  return isOver;
}

function MediaField({ media, hint, isHinting, onMedia, onRemove, onHint, onHinting, onCamera }) {
  const input = useRef(null);
  const pick = (event) => {
    onMedia(mediaOf(event.target.files));
    event.target.value = "";
  };
  const canHint = media.length === 1 && !media[0].isVideo;
  return html`<section class="media-field" aria-label="Pictures and clips">
    ${media.length
      ? html`<ul class="previews">${media.map((one, index) => html`<li>
          ${isHinting && canHint
            ? html`<${BoxPicker} src=${one.address} alt=${one.name} box=${hint} label="Draw a box where to look" onBox=${onHint} />`
            : html`<${Preview} medium=${one} box=${canHint ? hint : null} />`}
          <button type="button" class="remove" onClick=${() => onRemove(index)} aria-label=${`remove ${one.name}`}><span aria-hidden="true">×</span></button></li>`)}</ul>`
      : html`<button type="button" class="drop" onClick=${() => input.current.click()}>
          <b>Choose a picture or clip</b><span>or drop it here, or paste it</span></button>`}
    <div class="media-tools">
      <input ref=${input} type="file" accept="image/*,video/*" multiple hidden onChange=${pick} aria-label="picture or clip" />
      ${media.length ? html`<button type="button" onClick=${() => input.current.click()}>add</button>` : null}
      <button type="button" onClick=${onCamera}>camera</button>
      ${canHint ? html`<button type="button" aria-pressed=${isHinting} onClick=${() => onHinting(!isHinting)}>${hint && !isHinting ? "change the hint" : "draw a hint"}</button>` : null}
      ${hint && canHint ? html`<button type="button" onClick=${() => onHint(null)}>remove the hint</button>` : null}
    </div>
  </section>`;
}

function Preview({ medium, box }) {
  if (medium.isVideo) return html`<video src=${medium.address} muted playsinline controls preload="metadata" aria-label=${medium.name}></video>`;
  return html`<div class="canvas"><img src=${medium.address} alt=${medium.name} />${box ? html`<${Boxes} marks=${[{ box, turn: 0, kind: "own" }]} />` : null}</div>`;
}

function CameraDialog({ onMedium, onClose }) {
  const dialog = useRef(null);
  const video = useRef(null);
  const [problem, setProblem] = useState("");
  const [isReady, setReady] = useState(false); // before, a photo would be empty
  useEffect(() => {
    let stream;
    let isOpen = true;
    const stop = () => stream?.getTracks().forEach((track) => track.stop());
    dialog.current.showModal();
    const open = async () => {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        if (isOpen) video.current.srcObject = stream;
        else stop(); // closed before the user allowed it
      } catch {
        setProblem("There is no camera, or this page may not use it.");
      }
    };
    open();
    return () => {
      isOpen = false;
      stop();
    };
  }, []);
  const take = () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.current.videoWidth;
    canvas.height = video.current.videoHeight;
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    canvas.toBlob((blob) => {
      if (blob) onMedium(mediumOf(blob, "photo"));
      dialog.current.close();
    }, "image/jpeg", 0.95);
  };
  return html`<dialog class="camera" ref=${dialog} onClose=${onClose} aria-labelledby="camera-title"><h2 id="camera-title">Take a photo</h2>
    ${problem ? html`<p class="error" role="alert">${problem}</p>` : html`<video ref=${video} autoplay muted playsinline aria-label="camera" onPlaying=${() => setReady(true)}></video>`}
    <div class="buttons"><button type="button" class="primary" disabled=${Boolean(problem) || !isReady} onClick=${take}>take the photo</button>
      <button type="button" onClick=${() => dialog.current.close()}>cancel</button></div></dialog>`;
}
