// The question: its words and files, the models that answer it, and the dry run before it is sent.

import { useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.mjs";
import { html, Icon } from "./html.js";
import { Forecast } from "./hop.js";
import * as session from "./session.js";
import { followed, runningIds } from "./store.js";
import { FILE_LIMIT, modelLine, nameOf, size } from "./words.js";

const MOST_MODELS = 6;
const REMEMBERED = "playground.models";

/** Read dropped, pasted or chosen files; resolves to `{files, problems}`. */
async function readFiles(list) {
  const problems = [];
  const files = [];
  for (const file of list) {
    if (file.size > FILE_LIMIT) problems.push(`${file.name} has ${size(file.size)}; the limit is ${size(FILE_LIMIT)}.`);
    else if (!file.size) problems.push(`${file.name} is empty.`);
    else {
      const data = await base64(file).catch(() => null); // a folder has no content, and a file may be gone
      if (data === null) {
        problems.push(`${file.name} cannot be read.`);
        continue;
      }
      const preview = /^image\/(png|jpeg|gif|webp)$/.test(file.type) ? URL.createObjectURL(file) : null;
      files.push({ name: file.name || "pasted", mediaType: file.type || "application/octet-stream", size: file.size, data, preview });
    }
  }
  return { files, problems };
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function remembered() {
  try {
    const names = JSON.parse(localStorage.getItem(REMEMBERED));
    return Array.isArray(names) ? names : [];
  } catch {
    return []; // storage may be forbidden; the first model is chosen then
  }
}

function remember(names) {
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify(names));
  } catch {
    // as above: the choice lasts as long as the page
  }
}

function Models({ models, chosen, setChosen }) {
  const groups = [
    ["Models", models.filter((model) => model.kind !== "plan")],
    ["Plans", models.filter((model) => model.kind === "plan")],
  ].filter(([, members]) => members.length);
  const put = (place, name) => setChosen(chosen.map((old, index) => (index === place ? name : old)));
  const free = models.find((model) => !chosen.includes(model.id));
  return html`<div class="models" role="group" aria-label="Models that answer">
    ${chosen.map(
      (name, place) => html`<span class="model-pick" key=${place}>
        <select aria-label=${place ? `Model ${place + 1}` : "Model"} value=${name} onChange=${(event) => put(place, event.target.value)}>
          ${groups.map(
            ([label, members]) => html`<optgroup key=${label} label=${label}>
              ${members.map((model) => html`<option key=${model.id} value=${model.id}>${modelLine(model)}</option>`)}
            </optgroup>`,
          )}
        </select>
        ${chosen.length > 1
          ? html`<button type="button" class="quiet" aria-label=${`Leave out ${name}`} title=${`Leave out ${name}`} onClick=${() => setChosen(chosen.filter((_, index) => index !== place))}><${Icon} name="close" /></button>`
          : null}
      </span>`,
    )}
    ${chosen.length < MOST_MODELS && free
      ? html`<button type="button" class="quiet" onClick=${() => setChosen([...chosen, free.id])}><${Icon} name="columns" />Compare</button>`
      : null}
  </div>`;
}

/** Where the question is written. Enter sends, Shift+Enter begins a line, Esc stops the answers that run. */
export function Composer({ state }) {
  const { models } = state;
  const [question, setQuestion] = useState("");
  const [files, setFiles] = useState([]);
  const [problems, setProblems] = useState([]);
  const [picked, setPicked] = useState(remembered);
  const [dropping, setDropping] = useState(false);
  const box = useRef(null);
  const picker = useRef(null);

  const known = picked.filter((name) => models.some((model) => model.id === name));
  const chosen = known.length ? known : models.slice(0, 1).map((model) => model.id);
  const setChosen = (names) => {
    setPicked(names);
    remember(names);
  };
  const parentId = followed(state);
  const running = runningIds(state);
  const compared = state.columns.length > 0;

  useEffect(() => box.current.focus(), [state.conversationId === null]);
  useLayoutEffect(() => {
    box.current.style.height = "auto"; // through the CSSOM, which the policy allows
    box.current.style.height = `${Math.min(box.current.scrollHeight, 280)}px`;
  }, [question]);

  const add = async (list) => {
    const read = await readFiles(list);
    setProblems(read.problems);
    setFiles((old) => [...old, ...read.files]);
    box.current.focus();
  };

  useEffect(() => {
    const holdsFiles = (event) => event.dataTransfer?.types?.includes("Files");
    const over = (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setDropping(true);
    };
    const leave = (event) => event.relatedTarget === null && setDropping(false);
    const drop = (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setDropping(false);
      add(event.dataTransfer.files);
    };
    addEventListener("dragover", over);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  }, []);

  const ready = state.ready && chosen.length > 0 && question.trim() !== "" && !running.length;
  const send = async () => {
    if (!ready) return;
    const given = { question, files };
    setQuestion("");
    setFiles([]);
    setProblems([]);
    box.current.focus(); // at once: by the time of the reply the user may be elsewhere
    if (!(await session.ask(given.question, given.files, chosen))) {
      setQuestion((now) => now || given.question); // refused: the words are not lost
      setFiles((now) => (now.length ? now : given.files));
    }
  };
  const [due, setDue] = useState(false);
  useEffect(() => {
    if (!due || !state.ready) return;
    setDue(false);
    send();
  }, [due, state.ready]);
  const onKey = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (state.ready) send();
    else setDue(true); // the models are still on their way
  };
  const onPaste = (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    add(event.clipboardData.files);
  };
  const blind = files.some((file) => file.mediaType.startsWith("image/"))
    ? chosen.filter((name) => models.find((model) => model.id === name)?.images === false)
    : [];
  const goesOn = compared && parentId && state.turns[parentId];

  return html`<form class="composer ${dropping ? "dropping" : ""}" aria-label="Question" onSubmit=${(event) => (event.preventDefault(), send())}>
    ${problems.map((problem) => html`<p class="problem" key=${problem}>${problem}</p>`)}
    ${blind.map((name) => html`<p class="problem" key=${name}>${name} does not see images.</p>`)}
    <${Forecast} models=${chosen} parentId=${parentId} question=${question} files=${files} busy=${running.length > 0} />
    ${goesOn && !running.length ? html`<p class="faint goes-on">The next question goes on after the answer of <b>${nameOf(goesOn)}</b>.</p>` : null}
    ${files.length
      ? html`<ul class="files" aria-label="Files">
          ${files.map(
            (file, index) => html`<li class="chip" key=${index}>
              ${file.preview ? html`<img src=${file.preview} alt="" />` : html`<${Icon} name="clip" />`}
              ${file.name} <span class="faint">${size(file.size)}</span>
              <button type="button" class="quiet" aria-label=${`Remove ${file.name}`} title=${`Remove ${file.name}`} onClick=${() => setFiles(files.filter((_, place) => place !== index))}><${Icon} name="close" /></button>
            </li>`,
          )}
        </ul>`
      : null}
    <textarea
      ref=${box}
      id="question"
      rows="1"
      aria-label="Your question"
      aria-describedby="composer-keys"
      placeholder=${dropping ? "Drop the files here" : "Ask anything"}
      value=${question}
      onInput=${(event) => setQuestion(event.target.value)}
      onKeyDown=${onKey}
      onPaste=${onPaste}
    ></textarea>
    <div class="composer-bar">
      <${Models} models=${models} chosen=${chosen} setChosen=${setChosen} />
      <input ref=${picker} type="file" multiple hidden onChange=${(event) => (add(Array.from(event.target.files)), (event.target.value = ""))} />
      <button type="button" class="quiet" aria-label="Add files" title="Add files; they can also be dropped or pasted" onClick=${() => picker.current.click()}><${Icon} name="clip" /></button>
      ${running.length
        ? html`<button type="button" class="primary" onClick=${session.stopAll}><${Icon} name="stop" />${running.length > 1 ? "Stop all" : "Stop"}</button>`
        : html`<button type="submit" class="primary" disabled=${!ready}><${Icon} name="send" />${chosen.length > 1 ? `Ask ${chosen.length}` : "Ask"}</button>`}
    </div>
    <p id="composer-keys" class="faint keys">Enter asks · Shift+Enter begins a line · Esc stops</p>
  </form>`;
}
