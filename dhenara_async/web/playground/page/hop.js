// The hop: the changes to the conversation on its way to another model. Before sending as a forecast, afterwards at the
// seam between two answers, part by part.

import { useEffect, useMemo, useState } from "./vendor/hooks.mjs";
import { html } from "./html.js";
import { dryRun } from "./session.js";
import { money, number, plural } from "./words.js";

const OUTCOMES = ["native", "converted", "downgraded", "omitted", "synthesised"];
const SEVERITY_WORDS = { info: "no content lost", degraded: "form changed", lossy: "content lost" };

/** "5 native, 1 converted, 1 omitted" */
export function countsInWords(counts) {
  const told = OUTCOMES.filter((outcome) => counts[outcome]).map((outcome) => `${number(counts[outcome])} ${outcome}`);
  return told.join(", ") || "nothing to convert";
}

const worst = (entries) => ["lossy", "degraded", "info"].find((severity) => entries.some((entry) => entry.severity === severity));

const spaced = (code) => code.replaceAll("_", " ");

const modelOf = (origin) => (typeof origin === "string" ? origin : (origin?.model ?? null));

/** The entries of a report as a list. */
export function ReportList({ report }) {
  if (!report.entries.length) return html`<p class="faint">Every part goes as it is.</p>`;
  return html`<ol class="report">
    ${report.entries.map(
      (entry, index) => html`<li key=${index} class=${entry.severity}>
        <span class="mark">${SEVERITY_WORDS[entry.severity]}</span>
        <span
          ><b>${spaced(entry.kind)}</b>${modelOf(entry.origin) ? ` of ${modelOf(entry.origin)}` : ""}: ${spaced(entry.code)}${" "}
          <span class="faint">(${spaced(entry.reason)})</span>${entry.detail ? html`<br /><span class="faint">${entry.detail}</span>` : null}</span
        >
      </li>`,
    )}
  </ol>`;
}

/** The band above a turn whose model got a converted conversation. */
export function Seam({ report, from, to }) {
  if (!report || (from === to && !report.entries.length)) return null;
  const severity = worst(report.entries) ?? "none";
  const heading = from && from !== to ? `${from} → ${to}` : to;
  return html`<details class="seam ${severity}">
    <summary>
      <span class="seam-line"
        ><b>${heading}</b>: ${countsInWords(report.counts)}${report.lossless === false || severity === "lossy" ? " · content lost" : ""}</span
      >
    </summary>
    <${ReportList} report=${report} />
  </details>`;
}

/** The dry run: what each chosen model would lose, and the estimate of its cost. Nothing is sent to a provider. */
export function Forecast({ models, parentId, question, files, busy }) {
  const [told, setTold] = useState({});
  const key = JSON.stringify([busy, models, parentId, question, files.map((file) => [file.name, file.size])]);
  useEffect(() => {
    if (busy || (!parentId && !question.trim() && !files.length)) {
      setTold({});
      return undefined;
    }
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      const sent = files.map(({ name, mediaType, data }) => ({ name, mediaType, data }));
      const each = models.map((model) =>
        dryRun({ model, parentId, question, files: sent }, abort.signal).catch((error) => ({ problem: error.message })),
      );
      const results = await Promise.all(each);
      if (!abort.signal.aborted) setTold(Object.fromEntries(models.map((model, index) => [model, results[index]])));
    }, 400);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key]);
  return useMemo(() => {
    const asked = question.trim() !== "" || files.length > 0;
    const known = models.filter((model) => told[model] && (asked || told[model].report?.entries.length || told[model].refused));
    if (!known.length) return null;
    return html`<ul class="forecast" aria-label="Before sending">
      ${known.map((model) => html`<li key=${model}><${Line} model=${model} told=${told[model]} /></li>`)}
    </ul>`;
  }, [told, key]); // before there is a question, only losses are worth a line
}

function Line({ model, told }) {
  if (told.problem) return html`<p class="forecast-line"><b>${model}</b> <span class="loss">${told.problem}</span></p>`;
  if (told.refused) {
    return html`<p class="forecast-line"><b>${model}</b> <span class="loss">${told.refused.message}</span> ${told.refused.advice ?? ""}</p>`;
  }
  const { report, inputTokens, cost, ignoredKnobs = [] } = told;
  const severity = worst(report.entries) ?? "none";
  const numbers = [
    inputTokens !== null && inputTokens !== undefined && `about ${plural(inputTokens, "token")} in`,
    cost && money(cost).replace(/^(?=\W|[A-Z])/, "about "),
    told.fits === false && "too long for its context",
  ].filter(Boolean);
  const ignored = ignoredKnobs.map((knob) => (typeof knob === "string" ? knob : (knob.knob ?? knob.message)));
  const line = html`<b>${model}</b> would get ${countsInWords(report.counts)}${numbers.map((words) => ` · ${words}`)}`;
  if (!report.entries.length && !ignored.length) return html`<p class="forecast-line">${line}</p>`;
  return html`<details class="forecast-line ${severity}">
    <summary>${line}${severity === "lossy" ? html` · <b class="loss">content lost</b>` : null}</summary>
    <${ReportList} report=${report} />
    ${ignored.length ? html`<p class="faint">Settings it ignores: ${ignored.join(", ")}</p>` : null}
  </details>`;
}
