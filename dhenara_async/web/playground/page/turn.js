// One turn: its question, and the answer with its parts, numbers and buttons.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import { html, Icon } from "./html.js";
import { copyText, MarkdownView } from "./markdown.js";
import * as session from "./session.js";
import { money, nameOf, number, plural, seconds, size } from "./words.js";

/** Markdown that is brought up to date block by block; preact leaves the element's children alone. */
export function Markdown({ text, live }) {
  const element = useRef(null);
  const view = useRef(null);
  useLayoutEffect(() => {
    view.current ??= new MarkdownView(element.current);
    view.current.update(text, live);
  }, [text, live]);
  return useMemo(() => html`<div class="markdown" ref=${element}></div>`, []);
}

const pretty = (value) => {
  if (value === null || value === undefined || value === "") return "";
  try {
    return JSON.stringify(typeof value === "string" ? JSON.parse(value) : value, null, 2);
  } catch {
    return String(value);
  }
};

function Fold({ title, aside = null, children, open = false }) {
  return html`<details class="fold" open=${open}>
    <summary>${title}${aside ? html` <span class="faint">· ${aside}</span>` : null}</summary>
    <div class="fold-body">${children}</div>
  </details>`;
}

const Raw = ({ text }) => html`<pre class="raw" tabindex="0">${text}</pre>`;

export function File({ file }) {
  const name = file.name ?? file.filename ?? "file";
  const type = file.mediaType ?? file.media_type ?? "";
  const address = safeAddress(file.url);
  if (address && /^image\/(png|jpeg|gif|webp)$/.test(type)) {
    return html`<figure class="file">
      <img src=${address} alt=${name} loading="lazy" />
      <figcaption>${name}</figcaption>
    </figure>`;
  }
  const words = html`<${Icon} name="clip" />${name} <span class="faint">${size(file.size)}</span>`;
  return address ? html`<a class="file chip" href=${address} download=${name}>${words}</a>` : html`<span class="file chip">${words}</span>`;
}

// Our own attachment route, or a preview of a file that was just dropped; never another host's address: it would be a beacon.
function safeAddress(url) {
  if (!url) return null;
  const address = new URL(url, document.baseURI);
  return address.protocol === "blob:" || address.origin === location.origin ? address.href : null;
}

function Part({ part, live }) {
  switch (part.type) {
    case "text":
      return html`<${Markdown} text=${part.text ?? ""} live=${live} />`;
    case "reasoning":
      if (!part.text && !part.live) return html`<${Fold} title="Reasoning" aside="kept by the provider, not shown"><p class="faint">The model reasoned; its text is not readable.</p><//>`;
      return html`<${Fold} title=${part.live ? "Reasoning …" : "Reasoning"} aside=${part.text ? plural(part.text.split(/\s+/).length, "word") : null}>
        <${Markdown} text=${part.text ?? ""} live=${live} />
      <//>`;
    case "refusal":
      return html`<div class="refusal"><b>The model declined.</b> <span>${part.text}</span></div>`;
    case "tool_call":
    case "tool_run":
      return html`<${Fold} title=${`Tool call: ${part.name ?? ""}`} aside=${part.live ? runWords(part) : null}><${Raw} text=${pretty(part.arguments)} /><//>`;
    case "tool_result":
      return html`<${Fold} title=${`${part.is_error || part.isError ? "Tool failed" : "Tool result"}: ${part.name ?? ""}`}>
        ${(part.content ?? []).map((item, index) =>
          item.type === "file" ? html`<${File} key=${index} file=${item} />` : html`<${Raw} key=${index} text=${item.type === "json" ? pretty(item.value) : item.text} />`,
        )}
        ${part.content ? null : html`<${Raw} text=${pretty(part.text)} />`}
      <//>`;
    case "hosted_tool":
      return html`<${Fold} title=${`Provider's tool: ${(part.tool ?? part.name ?? "").replaceAll("_", " ")}`}>
        ${part.input ? html`<${Raw} text=${pretty(part.input)} />` : null}${part.output ? html`<${Raw} text=${pretty(part.output)} />` : null}
      <//>`;
    case "file":
      return html`<${File} file=${part} />`;
    default:
      return html`<${Fold} title=${part.type}><${Raw} text=${pretty(part)} /><//>`;
  }
}

function runWords(part) {
  const { progress } = part;
  if (!progress) return part.type === "tool_run" ? "running" : "…";
  return [progress.message, progress.total ? `${Math.round((100 * progress.done) / progress.total)} %` : null].filter(Boolean).join(" · ");
}

function Sources({ parts }) {
  const cited = parts.flatMap((part) => part.citations ?? []);
  const byName = new Map(cited.map((source) => [source.url ?? source.title ?? source.cited_text, source]));
  if (!byName.size) return null;
  return html`<${Fold} title=${plural(byName.size, "source")}>
    <ol class="sources">
      ${Array.from(byName.values(), (source, index) => {
        const linked = /^https?:\/\//i.test(source.url ?? "");
        const name = source.title || source.url || "Source";
        return html`<li key=${index}>
          ${linked ? html`<a href=${source.url} target="_blank" rel="noopener noreferrer nofollow">${name}</a>` : name}
          ${source.cited_text ? html`<div class="faint">“${source.cited_text}”</div>` : null}
        </li>`;
      })}
    </ol>
  <//>`;
}

const STATE_WORDS = { running: "answering …", interrupted: "stopped early", failed: "failed", complete: "" };

/** Usage, cost and times as one quiet line. */
export function Numbers({ turn }) {
  const { usage, cost } = turn;
  const known = usage && usage.known !== false;
  const tokens = known && [usage.inputTokens, usage.outputTokens].every((value) => value !== null && value !== undefined);
  const words = [
    turn.firstWordMs !== null && turn.firstWordMs !== undefined && [`first word ${seconds(turn.firstWordMs)}`, "Time to the first word"],
    turn.durationMs !== null && turn.durationMs !== undefined && [`${seconds(turn.durationMs)}`, "Time to the end"],
    tokens && [`${number(usage.inputTokens)} → ${plural(usage.outputTokens, "token")}`, "Tokens of the request and of the answer"],
    known && usage.reasoningTokens && [`${number(usage.reasoningTokens)} reasoning`, "Tokens of reasoning, part of the answer's"],
    cost ? [money(cost), "Cost"] : turn.status !== "running" && known && ["cost unknown", turn.costUnknown ?? "There is no price for this model"],
  ].filter(Boolean);
  if (!words.length) return null;
  return html`<p class="numbers">${words.map(([text, title]) => html`<span key=${title} title=${title}>${text}</span>`)}</p>`;
}

/** Whose answer it is. */
export function AnswerHead({ turn }) {
  const name = nameOf(turn);
  const state = STATE_WORDS[turn.status] ?? turn.status;
  return html`<header class="answer-head">
    <span class="badge" aria-hidden="true">${name.slice(0, 1).toUpperCase()}</span>
    <strong class="model">${name}</strong>
    ${turn.model && turn.model !== name ? html`<span class="faint">${turn.model}</span>` : null}
    ${state ? html`<span class="state ${turn.status}">${state}</span>` : null}
  </header>`;
}

/** The body of an answer, in a column or alone. */
export function Answer({ turn }) {
  const live = turn.status === "running";
  return html`<div class="answer" aria-busy=${live ? "true" : "false"}>
    ${(turn.restarts ?? []).length ? html`<p class="faint">Began again: ${turn.restarts.at(-1)}</p>` : null}
    ${turn.parts.map((part, index) => html`<${Part} key=${index} part=${part} live=${live} />`)}
    ${live && !turn.parts.length ? html`<p class="waiting" aria-hidden="true"><span></span><span></span><span></span></p>` : null}
    ${(turn.approvals ?? []).map((call) => html`<p class="notice" key=${call.call_id}>Waits for a decision: ${call.name}</p>`)}
    <${Sources} parts=${turn.parts} />
    <${Problem} turn=${turn} />
    ${(turn.warnings ?? []).length ? html`<${Fold} title=${plural(turn.warnings.length, "warning")}><ul>${turn.warnings.map((warning, index) => html`<li key=${index}>${warningWords(warning)}</li>`)}</ul><//>` : null}
    ${(turn.attempts ?? []).length > 1 ? html`<${Fold} title=${plural(turn.attempts.length, "attempt")}><ol>${turn.attempts.map((attempt, index) => html`<li key=${index}>${attempt.model}: ${attempt.outcome}${attempt.error ? ` (${errorWords(attempt.error)})` : ""}</li>`)}</ol><//>` : null}
  </div>`;
}

const warningWords = (warning) => (typeof warning === "string" ? warning : (warning.message ?? warning.detail ?? JSON.stringify(warning)));
const errorWords = (error) => (typeof error === "string" ? error : (error.message ?? ""));

function Problem({ turn }) {
  if (!turn.error) return null;
  if (turn.error.code === "Cancelled") return html`<p class="faint">${turn.error.message} ${turn.error.advice}</p>`;
  return html`<div class="problem">
    <p><b>${turn.error.message}</b></p>
    ${turn.error.detail ? html`<p class="detail">${turn.error.detail}</p>` : null}
    ${turn.error.advice ? html`<p>${turn.error.advice}</p>` : null}
  </div>`;
}

/** The text of an answer, for the clipboard. */
export const textOf = (turn) =>
  turn.parts.filter((part) => part.type === "text" || part.type === "refusal").map((part) => part.text).join("");

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
  if (turn.status === "running") {
    return html`<div class="tools"><button type="button" class="soft" onClick=${() => session.stop(turn.id)}><${Icon} name="stop" />Stop</button></div>`;
  }
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

/** What a node of a tool loop has in place of a question: the results of the calls before it. */
export function ToolResults({ results }) {
  return results.map(
    (result, index) => html`<${Part} key=${index} part=${{ ...result, type: "tool_result" }} live=${false} />`,
  );
}

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
