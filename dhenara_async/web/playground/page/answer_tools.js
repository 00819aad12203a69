// The buttons of an answer: stop, run again, copy, the request as sent, and the other answers of the fork.

import { useEffect, useRef, useState } from "./vendor/hooks.mjs";
import { textOf } from "./answer.js";
import { html, Icon } from "./html.js";
import { copyText } from "./markdown.js";
import { pretty, Raw } from "./parts.js";
import * as session from "./session.js";
import { nameOf } from "./words.js";

function SentRequest({ turn, close }) {
  const [told, setTold] = useState(null);
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
    session.sentRequest(turn.id).then(setTold, (error) => setTold({ problem: error.message }));
  }, []);
  const text = told && !told.problem ? requestText(told) : "";
  return html`<dialog ref=${dialog} class="sheet" aria-label="The request as sent" onClose=${close}>
    <header><h2>The request as sent to ${nameOf(turn)}</h2><button type="button" class="quiet" onClick=${() => dialog.current.close()}><${Icon} name="close" />Close</button></header>
    <p class="faint">Written again by the same encoder from the stored conversation. Keys are left out.</p>
    ${told === null ? html`<p>Loading …</p>` : null}
    ${told?.problem ? html`<p class="problem">${told.problem}</p>` : null}
    ${text ? html`<button type="button" class="soft" onClick=${(event) => copyText(text, event.currentTarget)}>Copy</button><${Raw} text=${text} />` : null}
  </dialog>`;
}

function requestText({ method, url, headers, body }) {
  const lines = Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`);
  return [`${method} ${url}`, ...lines, "", typeof body === "string" ? pretty(body) : JSON.stringify(body, null, 2)].join("\n");
}

/**
 * Stop while it runs; afterwards run again, copy, the request, and the other answers of the fork. `last` is the last
 * answer of the tool loop that began with `turn`.
 */
export function AnswerTools({ turn, last = turn, models, inColumn = false }) {
  const [asking, setAsking] = useState(false);
  if (last.status === "running") {
    return html`<div class="tools"><button type="button" class="soft" onClick=${() => session.stop(last.id)}><${Icon} name="stop" />Stop</button></div>`;
  }
  if (last.status === "deleted") return html`<div class="tools">${inColumn ? null : html`<${ForkPager} turn=${turn} />`}</div>`;
  const own = askedModel(turn, models);
  return html`<div class="tools">
    ${inColumn ? null : html`<${ForkPager} turn=${turn} />`}
    <span class="with-model">
      <button type="button" class="quiet" onClick=${() => session.again(turn, own)}><${Icon} name="again" />Run again</button>
      <select aria-label="Run again with another model" value="" onChange=${(event) => event.target.value && session.again(turn, event.target.value)}>
        <option value="">with …</option>
        ${models.map((model) => html`<option key=${model.id} value=${model.id}>${model.id}</option>`)}
      </select>
    </span>
    ${textOf(last)
      ? html`<button type="button" class="quiet" onClick=${(event) => copyText(textOf(last), event.currentTarget.querySelector("span"))}><${Icon} name="copy" /><span>Copy</span></button>`
      : null}
    <button type="button" class="quiet" onClick=${() => setAsking(true)}><${Icon} name="code" />Request</button>
    ${asking ? html`<${SentRequest} turn=${last} close=${() => setAsking(false)} />` : null}
  </div>`;
}

/** The model to ask for the same again: the name it was asked by, if that still exists. */
export function askedModel(turn, models) {
  const names = [turn.modelId, turn.model];
  return names.find((name) => models.some((model) => model.id === name)) ?? models[0]?.id;
}

/** `‹ 2/3 ›` at a fork. */
export function ForkPager({ turn }) {
  const { siblings = [] } = turn;
  if (siblings.length < 2) return null;
  const place = siblings.indexOf(turn.id);
  const go = (step) => session.showBranch(siblings[place + step]);
  return html`<span class="fork" role="group" aria-label="Answers at this fork">
    <button type="button" class="quiet" aria-label="Previous answer" title="Alt+Up at the last fork" aria-keyshortcuts="Alt+ArrowUp" disabled=${place <= 0} onClick=${() => go(-1)}><${Icon} name="left" /></button>
    <span>${place + 1}/${siblings.length}</span>
    <button type="button" class="quiet" aria-label="Next answer" title="Alt+Down at the last fork" aria-keyshortcuts="Alt+ArrowDown" disabled=${place >= siblings.length - 1} onClick=${() => go(1)}><${Icon} name="right" /></button>
    <button type="button" class="quiet" onClick=${() => session.compare(siblings.slice(-6))}><${Icon} name="columns" />Side by side</button>
  </span>`;
}
