// An answer's Markdown as nodes of the page.
//
// The text is cut into its top-level blocks, and a block is rendered again when its source changed. While tokens stream
// in, only the last two blocks can change, so lexing starts before them. An answer is somebody else's text: raw HTML and
// images are shown as written, links are http(s) and mailto, and DOMPurify returns a fragment, so that no HTML is ever
// assigned. A block that is too large or too deep for the Markdown parser is shown as plain text, and so is an answer
// above 200 KB, in pages.

import DOMPurify from "./vendor/purify.es.mjs";
import { Lexer, Marked } from "./vendor/marked.esm.js";

const BLOCK_LIMIT = 50_000; // characters; 80 KB of `a**b` take marked 1.6 s
const ANSWER_LIMIT = 200_000;
const PAGE_SIZE = 100_000;
const PIECE = 4_000; // characters of a piece of plain text
const SLOW_MS = 100; // of work on the main thread are too much for text that comes at every flush
const GROWING_MS = 15; // a block that took longer is plain text while it grows; its layout takes as long again
const ONCE_MS = 3000; // that a block may take at the end of an answer, on a busy machine
const TOO_SLOW = { ms: Infinity, length: 1 };
const QUICK = 4_000; // characters that are never slow: a busy machine took the time
const DEEP = /(?:>[ \t]*){24}|(?:[*+-][ \t]+){24}|^[ \t]{80,}(?:[*+-]|\d+[.)])[ \t]/m; // thousands of these overflow marked's stack
const HELD_BACK = 2; // blocks that later text can still change

const escaped = (text) =>
  text.replace(/[&<>"']/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[char]);

const marked = new Marked({
  gfm: true,
  breaks: false,
  renderer: {
    html: ({ raw, block }) => (block ? `<p>${escaped(raw.trimEnd())}</p>` : escaped(raw)),
    image: ({ raw }) => escaped(raw),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      return `<div class="heading h${depth}">${this.parser.parseInline(tokens)}</div>\n`;
    },
  },
});

const PURE = {
  RETURN_DOM_FRAGMENT: true,
  ALLOWED_TAGS:
    "a b blockquote br code del div em hr i li ol p pre s strong sub sup table tbody td th thead tr ul span".split(" "),
  ALLOWED_ATTR: ["href", "title", "class", "start", "align"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
};

function plainBlock(text) {
  const block = document.createElement("div");
  block.className = "plain";
  grow(block, text);
  return block;
}

/** Append text to a plain block, in pieces that end with a line: a browser lays out the last one again, not all. */
function grow(block, text) {
  while (text) {
    let last = block.lastChild?.firstChild;
    if (!last || (last.length >= PIECE && last.data.endsWith("\n"))) {
      last = document.createTextNode("");
      const piece = document.createElement("div");
      piece.append(last);
      block.append(piece);
    }
    const end = text.indexOf("\n", Math.max(0, PIECE - 1 - last.length)) + 1 || text.length;
    last.appendData(text.slice(0, end));
    text = text.slice(end);
  }
}

const beyondParser = (source) => source.length > BLOCK_LIMIT || DEEP.test(source);

function parsed(source, links) {
  const lexer = new Lexer(marked.defaults);
  lexer.tokens.links = { ...links };
  return DOMPurify.sanitize(marked.parser(lexer.lex(source)), PURE);
}

/**
 * Return a block's source as nodes; one node of plain text, and `isPlain`, if it is too much for the parser. `slow` says
 * how long it took, and for how many characters; null if that was quick.
 */
function rendered(source, links) {
  if (beyondParser(source)) return { nodes: [plainBlock(source)], slow: null, isPlain: true };
  const begun = performance.now();
  try {
    const fragment = parsed(source, links);
    finish(fragment);
    const ms = performance.now() - begun;
    const slow = source.length > QUICK && ms > GROWING_MS ? { ms, length: source.length } : null;
    return { nodes: Array.from(fragment.childNodes), slow };
  } catch {
    return { nodes: [plainBlock(source)], slow: TOO_SLOW, isPlain: true };
  }
}

// Some sources take a time that grows with the square of their length, most do not.
const expected = (slow, length) => slow.ms * (length / slow.length) ** 2;

/** Whether a source would take too long, from the time of a shorter one; a quarter of it is tried if that is not sure. */
function tooSlow(slow, source, links) {
  if (expected(slow, source.length) <= ONCE_MS) return false;
  const sample = source.slice(0, source.length / 4);
  if (expected(slow, sample.length) > ONCE_MS) return true;
  const begun = performance.now();
  try {
    parsed(sample, links);
  } catch {
    return true;
  }
  return expected({ ms: performance.now() - begun, length: sample.length }, source.length) > ONCE_MS;
}

/** Give links, code, tables and headings of a fragment their manners. */
function finish(fragment) {
  for (const link of fragment.querySelectorAll("a")) {
    if (!link.hasAttribute("href")) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
  }
  for (const code of fragment.querySelectorAll("pre")) {
    code.tabIndex = 0; // it scrolls sideways
    const frame = document.createElement("div");
    frame.className = "code";
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "quiet copy-code";
    copy.textContent = "Copy";
    copy.addEventListener("click", () => copyText(code.textContent, copy));
    code.replaceWith(frame);
    frame.append(code, copy);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const heading of fragment.querySelectorAll(".heading")) heading.setAttribute("role", "heading");
}

/** Copy `text`, and say so for a moment on the button that was pressed. */
export async function copyText(text, button = null) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyBySelection(text);
  }
  if (!button) return done;
  button.dataset.words ??= button.textContent; // it may be pressed again while it says so
  button.textContent = done ? "Copied" : "Not copied";
  setTimeout(() => (button.textContent = button.dataset.words), 1500);
  return done;
}

// navigator.clipboard is missing where the page is served by plain HTTP on another address than loopback
function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function fragmentOf(nodes) {
  const fragment = document.createDocumentFragment();
  fragment.append(...nodes);
  return fragment;
}

/** Return the top-level blocks of `text` as `{raw, links}`; null if the lexer gives up. */
function blocksOf(text, links) {
  if (DEEP.test(text)) return null;
  const begun = performance.now();
  try {
    const lexer = new Lexer(marked.defaults);
    lexer.tokens.links = { ...links };
    const tokens = lexer.blockTokens(text, lexer.tokens);
    const raws = tokens.map((token) => token.raw);
    const whole = raws.reduce((sum, raw) => sum + raw.length, 0) === text.length;
    return { raws, links: lexer.tokens.links, whole, slow: performance.now() - begun > SLOW_MS };
  } catch {
    return null;
  }
}

/** The rendered answer in one element, brought up to date by `update`. */
export class MarkdownView {
  #element;
  #text = "";
  #blocks = []; // {raw, nodes, slow, isPlain}: see `rendered`
  #links = {};
  #stable = 0; // characters before the blocks that can still change
  #stableBlocks = 0;
  #page = null;
  #hard = false; // lexing the rest took too long: it is plain text while it grows

  constructor(element) {
    this.#element = element;
  }

  /**
   * Show `text`.
   *
   * @param text the whole answer so far
   * @param live whether more may follow; the last call for an answer has false
   */
  update(text, live = false) {
    if (text.includes("\r")) text = text.replace(/\r\n?/g, "\n");
    if (text.length > ANSWER_LIMIT) return this.#showPages(text);
    if (this.#page !== null || !text.startsWith(this.#text.slice(0, this.#stable))) this.#restart();
    if (text === this.#text && live) return;
    if (!live && this.#text && Object.keys(this.#links).length) this.#restart(); // links may be defined after their use
    this.#text = text;
    const rest = text.slice(this.#stable);
    const cut = this.#hard && live ? null : blocksOf(rest, this.#links);
    if (cut?.slow) this.#hard = true;
    const raws = cut === null ? (rest ? [rest] : []) : cut.raws;
    if (cut !== null) this.#links = cut.links;
    this.#show(raws, live);
    if (cut?.whole && raws.length > HELD_BACK) {
      const settled = raws.slice(0, -HELD_BACK);
      this.#stableBlocks += settled.length;
      this.#stable += settled.reduce((sum, raw) => sum + raw.length, 0);
    }
  }

  #restart() {
    this.#element.replaceChildren();
    this.#blocks = [];
    this.#text = "";
    this.#stable = this.#stableBlocks = 0;
    this.#page = null;
    this.#hard = false;
  }

  #show(raws, live) {
    let headings = false;
    raws.forEach((raw, index) => {
      const place = this.#stableBlocks + index;
      const old = this.#blocks[place];
      const growing = live && index >= raws.length - HELD_BACK;
      const plain = Boolean(old?.slow) && (growing || tooSlow(old.slow, raw, this.#links));
      if (plain && !growing) old.slow = TOO_SLOW; // it is not tried again
      if (old?.raw === raw && (!old.slow || plain)) return;
      if (old?.isPlain && (plain || beyondParser(raw)) && raw.startsWith(old.raw)) {
        grow(old.nodes[0], raw.slice(old.raw.length));
        old.raw = raw;
        return;
      }
      const { nodes, slow, isPlain } = plain
        ? { nodes: [plainBlock(raw)], slow: old.slow, isPlain: true }
        : rendered(raw, this.#links);
      const before = old?.nodes[0] ?? null;
      if (before) {
        before.before(...nodes);
        for (const node of old.nodes) node.remove();
      } else if (nodes.length) {
        this.#element.insertBefore(fragmentOf(nodes), this.#nextNode(place));
      }
      this.#blocks[place] = { raw, nodes, slow: growing || plain ? slow : null, isPlain };
      headings ||= nodes.some((node) => node.nodeType === Node.ELEMENT_NODE && node.matches(".heading, :has(.heading)"));
    });
    for (const gone of this.#blocks.splice(this.#stableBlocks + raws.length)) for (const node of gone.nodes) node.remove();
    if (headings) this.#levels();
  }

  #nextNode(place) {
    for (const block of this.#blocks.slice(place + 1)) if (block?.nodes.length) return block.nodes[0];
    return null;
  }

  // Below the question, which is a heading of level 2, and without a gap, however the answer numbered its own.
  #levels() {
    let last = 2;
    for (const heading of this.#element.querySelectorAll(".heading")) {
      const wanted = 2 + Number(/h(\d)/.exec(heading.className)?.[1] ?? 1);
      last = Math.min(wanted, last + 1, 6);
      heading.setAttribute("aria-level", String(last));
    }
  }

  #showPages(text) {
    if (this.#page === null) this.#restart();
    const pages = Math.ceil(text.length / PAGE_SIZE);
    const shown = Math.min(this.#page ?? 0, pages - 1);
    const same = this.#page !== null && this.#element.childElementCount && text.length === this.#text.length;
    if (same && shown === this.#page) return;
    const start = shown * PAGE_SIZE;
    const before = this.#text.slice(start, start + PAGE_SIZE);
    const content = text.slice(start, start + PAGE_SIZE);
    this.#text = text;
    const first = this.#element.querySelector(".plain");
    if (first && shown === this.#page && content.startsWith(before)) {
      grow(first, content.slice(before.length));
      this.#element.querySelector(".pages span").textContent = pageWords(shown, pages, text.length);
      for (const button of this.#element.querySelectorAll(".pages button")) button.disabled = this.#pageAt(button, shown, pages) === null;
      return;
    }
    this.#page = shown;
    this.#element.replaceChildren(this.#pager(shown, pages), plainBlock(content));
  }

  #pageAt(button, shown, pages) {
    const page = { first: 0, back: shown - 1, on: shown + 1, last: pages - 1 }[button.dataset.to];
    return page === shown || page < 0 || page >= pages ? null : page;
  }

  #pager(shown, pages) {
    const bar = document.createElement("div");
    bar.className = "pages";
    const words = document.createElement("span");
    words.textContent = pageWords(shown, pages, this.#text.length);
    bar.append(words);
    for (const [to, name] of Object.entries({ first: "First", back: "Previous", on: "Next", last: "Last" })) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.dataset.to = to;
      button.textContent = name;
      button.disabled = this.#pageAt(button, shown, pages) === null;
      button.addEventListener("click", () => this.#turnTo(to));
      bar.append(button);
    }
    return bar;
  }

  #turnTo(to) {
    const pages = Math.ceil(this.#text.length / PAGE_SIZE);
    const page = this.#pageAt({ dataset: { to } }, this.#page, pages);
    if (page === null) return;
    this.#page = page;
    this.#element.replaceChildren(
      this.#pager(page, pages),
      plainBlock(this.#text.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)),
    );
    const wanted = this.#element.querySelector(`[data-to=${to}]:enabled`) ?? this.#element.querySelector(".pages button:enabled");
    wanted?.focus();
  }
}

function pageWords(shown, pages, length) {
  return `${(length / 1000).toFixed(0)} thousand characters, as plain text · page ${shown + 1} of ${pages}`;
}
