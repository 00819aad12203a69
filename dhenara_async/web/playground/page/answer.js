// The answer of a turn: whose it is, its parts, what went wrong, and its numbers.

import { Decisions } from "./decision.js";
import { html } from "./html.js";
import { Fold, Part, Sources } from "./parts.js";
import { money, nameOf, number, plural, seconds } from "./words.js";

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
  const state = turn.waiting ? "waits for you" : (STATE_WORDS[turn.status] ?? turn.status);
  return html`<header class="answer-head">
    <span class="badge" aria-hidden="true">${name.slice(0, 1).toUpperCase()}</span>
    <strong class="model">${name}</strong>
    ${turn.model && turn.model !== name ? html`<span class="faint">${turn.model}</span>` : null}
    ${state ? html`<span class="state ${turn.waiting ? "interrupted" : turn.status}">${state}</span>` : null}
  </header>`;
}

/** The body of an answer, in a column or alone. */
export function Answer({ turn }) {
  const live = turn.status === "running";
  return html`<div class="answer" aria-busy=${live ? "true" : "false"}>
    ${(turn.restarts ?? []).length ? html`<p class="faint">Began again: ${turn.restarts.at(-1)}</p>` : null}
    ${turn.parts.map((part, index) => html`<${Part} key=${index} part=${part} live=${live} />`)}
    ${live && !turn.parts.length ? html`<p class="waiting" aria-hidden="true"><span></span><span></span><span></span></p>` : null}
    ${live ? (turn.approvals ?? []).map((call) => html`<p class="notice" key=${call.call_id}>Waits for your decision: ${call.name}</p>`) : null}
    ${turn.waiting ? html`<${Decisions} key=${turn.waiting.calls.map((call) => call.key).join()} turn=${turn} />` : null}
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
  if (["Cancelled", "Deleted"].includes(turn.error.code)) return html`<p class="faint">${turn.error.message} ${turn.error.advice}</p>`;
  return html`<div class="problem">
    <p><b>${turn.error.message}</b></p>
    ${turn.error.detail ? html`<p class="detail">${turn.error.detail}</p>` : null}
    ${turn.error.advice ? html`<p>${turn.error.advice}</p>` : null}
  </div>`;
}

/** The text of an answer, for the clipboard. */
export const textOf = (turn) =>
  turn.parts.filter((part) => part.type === "text" || part.type === "refusal").map((part) => part.text).join("");
