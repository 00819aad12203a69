// The page: the sidebar, the conversation, the question.

import { render } from "./vendor/preact.mjs";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import { Composer } from "./composer.js";
import { html, Icon } from "./html.js";
import { Path } from "./path.js";
import { scroller, topOf } from "./scrolling.js";
import * as session from "./session.js";
import { runningIds } from "./store.js";
import { Sidebar } from "./sidebar.js";
import { Tree } from "./tree.js";

const NEAR_END = 120; // pixels: who reads further up is not scrolled away
const NEAR_TOP = 8;
const ABOVE_COLUMNS = 24;

function Welcome({ state }) {
  if (!state.ready) return null;
  return html`<div class="welcome">
    <h2>Ask one model, or several at once.</h2>
    <p>The model can change at every question. The conversation comes along, and each seam shows the parts that were converted or lost.</p>
    ${state.demo ? html`<p class="notice">Loopback: stand-in servers on this computer answer, not models.</p>` : null}
    ${state.tools.length ? html`<p>Tools that the models may call: <b>${state.tools.join(", ")}</b>.${state.demo ? " Name one in your question, and a stand-in calls it." : ""}</p>` : null}
  </div>`;
}

function Notice({ notice }) {
  if (!notice) return null;
  return html`<div class="notice problem">
    <p><b>${notice.message}</b> ${notice.advice ?? ""}</p>
    <button type="button" class="quiet" onClick=${session.dismissNotice}><${Icon} name="close" />Dismiss</button>
  </div>`;
}

/**
 * Keep what is new in view while answers grow, unless the reader scrolled away: the end of the conversation, or the tops
 * of the columns, which are read side by side.
 */
function useFollowing(state) {
  const area = useRef(null);
  const following = useRef(true);
  const place = () => {
    const { scrollHeight, clientHeight } = scroller();
    const columns = area.current.querySelector(".compare");
    const end = scrollHeight - clientHeight;
    return columns ? { top: Math.min(topOf(columns) - ABOVE_COLUMNS, end), near: NEAR_TOP } : { top: end, near: NEAR_END };
  };
  const onScroll = () => {
    const { top, near } = place();
    following.current = Math.abs(top - scroller().scrollTop) < near;
  };
  const follow = () => {
    if (following.current) scroller().scrollTop = place().top;
  };
  useLayoutEffect(() => {
    following.current = true;
  }, [state.conversationId, state.path.length, state.columns.join()]);
  useLayoutEffect(follow, [state.turns, state.path, state.columns]);
  useEffect(() => {
    const observer = new ResizeObserver(follow); // the question below grows with its lines
    observer.observe(area.current);
    return () => observer.disconnect();
  }, []);
  return [area, onScroll];
}

function App() {
  const [state, setState] = useState(session.store.get());
  const [listShown, setListShown] = useState(false);
  const [treeShown, setTreeShown] = useState(false);
  useEffect(() => session.store.subscribe(setState), []);
  useEffect(() => {
    session.begin();
  }, []);
  useEffect(() => {
    const onKey = (event) => {
      const step = event.altKey && { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (step && !document.querySelector("dialog[open]")) return lastFork(step, event);
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (listShown) setListShown(false);
      else if (runningIds(session.store.get()).length) session.stopAll();
      return undefined;
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [listShown]);
  const menu = useRef(null);
  useEffect(() => {
    if (!listShown) return undefined;
    const list = document.getElementById("conversations");
    list.querySelector("button").focus();
    return () => {
      if (document.activeElement === document.body || list.contains(document.activeElement)) menu.current.focus();
    };
  }, [listShown]);
  const title = state.title || (state.conversationId ? state.turns[state.path[0] ?? state.columns[0]]?.question : "") || "New conversation";
  useEffect(() => {
    document.title = `${title.slice(0, 60)} · Playground`;
  }, [title]);
  const [area, onScroll] = useFollowing(state);
  const nodes = useMemo(() => withRunning(state), [state.nodes, state.turns, state.path, state.columns]);
  return html`<div class="page">
    <a class="skip" href="#question" onClick=${skip}>Skip to the question</a>
    <${Sidebar} state=${state} shown=${listShown} close=${() => setListShown(false)} />
    ${listShown ? html`<div class="veil" onClick=${() => setListShown(false)}></div>` : null}
    <div class="main" onScroll=${onScroll}>
      <header class="top">
        <button ref=${menu} type="button" class="quiet narrow-only" aria-expanded=${listShown ? "true" : "false"} aria-controls="conversations" aria-label="Conversations" title="Conversations" onClick=${() => setListShown(!listShown)}><${Icon} name="menu" /></button>
        <h1>${title}</h1>
        ${state.nodes.length ? html`<button type="button" class="quiet" onClick=${() => setTreeShown(true)}><${Icon} name="tree" />Branches</button>` : null}
      </header>
      <main ref=${area} onScroll=${onScroll} tabindex="-1">
        <div class="thread">
          ${state.path.length || state.columns.length ? null : html`<${Welcome} state=${state} />`}
          <${Path} state=${state} />
        </div>
      </main>
      <div class="dock">
        <${Notice} notice=${state.notice} />
        ${state.connected ? null : html`<p class="notice">The connection is lost. Trying again …</p>`}
        <${Composer} state=${state} />
      </div>
    </div>
    <p class="offscreen" role="status" aria-live="polite">${state.status}</p>
    ${treeShown ? html`<${Tree} nodes=${nodes} shown=${new Set([...state.path, ...state.columns])} close=${() => setTreeShown(false)} />` : null}
  </div>`;
}

// Alt+Up and Alt+Down go through the answers of the last fork.
function lastFork(step, event) {
  const { path, turns } = session.store.get();
  const turn = path.map((turnId) => turns[turnId]).findLast((one) => one?.siblings?.length > 1);
  const next = turn?.siblings[turn.siblings.indexOf(turn.id) + step];
  if (!turn) return;
  event.preventDefault();
  if (next) session.showBranch(next);
}

function skip(event) {
  event.preventDefault(); // the address holds the conversation
  document.getElementById("question").focus();
}

/** The nodes of the tree, and the turns that run and are no nodes yet. */
function withRunning(state) {
  const there = new Set(state.nodes.map((node) => node.id));
  const more = [...state.path, ...state.columns].filter((turnId) => !there.has(turnId) && state.turns[turnId]);
  return [...state.nodes, ...more.map((turnId) => state.turns[turnId])];
}

render(html`<${App} />`, document.getElementById("app"));
