// One turn: its question, which can be asked in other words, and its answer.

import { useEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import { Answer, AnswerHead, Numbers } from "./answer.js";
import { AnswerTools, askedModel } from "./answer_tools.js";
import { html, Icon } from "./html.js";
import { File, ToolResults } from "./parts.js";
import * as session from "./session.js";
import { nameOf } from "./words.js";

/** The question; it can be asked again in other words, which begins a branch. */
export function Question({ turn, models }) {
  const [draft, setDraft] = useState(null);
  const box = useRef(null);
  const begin = useRef(null);
  const givenUp = useRef(false);
  useEffect(() => {
    if (draft !== null) box.current.focus();
    else if (givenUp.current) begin.current?.focus();
    givenUp.current = false;
  }, [draft !== null]);
  const giveUp = () => {
    givenUp.current = true;
    setDraft(null);
  };
  const model = askedModel(turn, models);
  const send = () => {
    if (!draft.trim()) return;
    session.edit(turn, draft, model);
    setDraft(null);
    document.getElementById("question").focus(); // as after every question
  };
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      giveUp();
    }
  };
  if (draft !== null) {
    return html`<form class="question editing" onSubmit=${(event) => (event.preventDefault(), send())}>
      <textarea ref=${box} aria-label="Question in other words" rows="3" value=${draft} onInput=${(event) => setDraft(event.target.value)} onKeyDown=${onKey}></textarea>
      <p class="faint">${model} answers. The old question and its answers stay as a branch.</p>
      <div class="tools"><button type="submit" class="primary">Ask</button><button type="button" class="soft" onClick=${giveUp}>Cancel</button></div>
    </form>`;
  }
  if (!turn.question && turn.toolResults?.length) return html`<${ToolResults} results=${turn.toolResults} />`;
  if (!turn.question && !turn.files?.length) return null; // a tool loop goes on
  return html`<div class="question">
    <h2 class="question-text"><span class="offscreen">You asked: </span>${turn.question}</h2>
    ${turn.files?.length ? html`<div class="files">${turn.files.map((file, index) => html`<${File} key=${index} file=${file} />`)}</div>` : null}
    ${turn.status === "running" ? null : html`<button type="button" class="quiet edit" ref=${begin} onClick=${() => setDraft(turn.question)}><${Icon} name="edit" />Edit</button>`}
  </div>`;
}

/** A turn of the path. */
export function Turn({ turn, models }) {
  return useMemo(
    () => html`<article class="turn" id=${`turn-${turn.id}`}>
      <${Question} turn=${turn} models=${models} />
      <div class="reply" role="group" aria-label=${`Answer of ${nameOf(turn)}`}>
        <${AnswerHead} turn=${turn} />
        <${Answer} turn=${turn} />
        <footer><${Numbers} turn=${turn} /><${AnswerTools} turn=${turn} models=${models} /></footer>
      </div>
    </article>`,
    [turn, models],
  );
}
