// The parts of an answer: text, reasoning, calls of tools and their results, files, sources.

import { useLayoutEffect, useMemo, useRef } from "./vendor/hooks.mjs";
import { html, Icon } from "./html.js";
import { MarkdownView } from "./markdown.js";
import { plural, size } from "./words.js";

/** Markdown that is brought up to date block by block; preact leaves the element's children alone. */
function Markdown({ text, live }) {
  const element = useRef(null);
  const view = useRef(null);
  useLayoutEffect(() => {
    view.current ??= new MarkdownView(element.current);
    view.current.update(text, live);
  }, [text, live]);
  return useMemo(() => html`<div class="markdown" ref=${element}></div>`, []);
}

export const pretty = (value) => {
  if (value === null || value === undefined || value === "") return "";
  try {
    return JSON.stringify(typeof value === "string" ? JSON.parse(value) : value, null, 2);
  } catch {
    return String(value);
  }
};

export function Fold({ title, aside = null, children, open = false }) {
  return html`<details class="fold" open=${open}>
    <summary>${title}${aside ? html` <span class="faint">· ${aside}</span>` : null}</summary>
    <div class="fold-body">${children}</div>
  </details>`;
}

export const Raw = ({ text }) => html`<pre class="raw" tabindex="0">${text}</pre>`;

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

export function Part({ part, live }) {
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
      return html`<${Fold} title=${`${resultWords(part)}: ${part.name ?? ""}`}>
        ${(part.content ?? []).map((item, index) =>
          item.type === "file" ? html`<${File} key=${index} file=${item} />` : html`<${Raw} key=${index} text=${item.type === "json" ? pretty(item.value) : item.text} />`,
        )}
        ${part.content || !part.text ? null : html`<${Raw} text=${pretty(part.text)} />`}
        ${(part.files ?? []).map((file, index) => html`<${File} key=${index} file=${file} />`)}
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

function resultWords(part) {
  if (part.denied) return "Denied";
  return part.is_error || part.isError ? "Tool failed" : "Tool result";
}

function runWords(part) {
  const { progress } = part;
  if (!progress) return part.type === "tool_run" ? "running" : "…";
  return [progress.message, progress.total ? `${Math.round((100 * progress.done) / progress.total)} %` : null].filter(Boolean).join(" · ");
}

export function Sources({ parts }) {
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

/** What a node of a tool loop has in place of a question: the results of the calls before it. */
export function ToolResults({ results }) {
  return results.map(
    (result, index) => html`<${Part} key=${index} part=${{ ...result, type: "tool_result" }} live=${false} />`,
  );
}
