// The list of conversations: search, open, rename, export, delete.

import { useEffect, useRef, useState } from "./vendor/hooks.mjs";
import { exportUrl } from "./api.js";
import { html, Icon } from "./html.js";
import * as session from "./session.js";

const SEARCH_PAUSE_MS = 250;

function Item({ item, current, onOpen }) {
  const [name, setName] = useState(null);
  const [asking, setAsking] = useState(false);
  const menu = useRef(null);
  const box = useRef(null);
  const finished = useRef(false); // by a key: the focus goes back to where it came from
  useEffect(() => {
    if (name !== null) box.current.focus();
    else if (finished.current) menu.current.querySelector("summary").focus();
    finished.current = false;
  }, [name !== null]);
  const title = item.title || "Untitled";
  if (name !== null) {
    const save = () => {
      setName(null);
      if (name.trim() && name !== item.title) session.rename(item.id, name.trim());
    };
    const onKey = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        finished.current = true;
        setName(null);
      }
    };
    const onSubmit = (event) => {
      event.preventDefault();
      finished.current = true;
      save();
    };
    const onBlur = () => finished.current || save();
    return html`<li class="item">
      <form onSubmit=${onSubmit}>
        <input ref=${box} aria-label="New name" value=${name} onInput=${(event) => setName(event.target.value)} onKeyDown=${onKey} onBlur=${onBlur} />
      </form>
    </li>`;
  }
  const choose = (action) => () => {
    menu.current.open = false;
    action();
  };
  const onMenuKey = (event) => {
    if (event.key !== "Escape" || !menu.current.open) return;
    event.stopPropagation();
    menu.current.open = false;
    menu.current.querySelector("summary").focus();
  };
  const onLeave = (event) => {
    if (menu.current && !menu.current.contains(event.relatedTarget)) menu.current.open = false;
  };
  return html`<li class="item ${current ? "current" : ""}">
    <button type="button" class="open" aria-current=${current ? "page" : null} onClick=${() => onOpen(item.id)}>${title}</button>
    <details class="menu" ref=${menu} onKeyDown=${onMenuKey} onFocusOut=${onLeave}>
      <summary aria-label=${`More for ${title}`} title="Rename, export, delete">⋯</summary>
      <div class="menu-body">
        <button type="button" class="quiet" onClick=${choose(() => setName(item.title ?? ""))}><${Icon} name="edit" />Rename</button>
        <a class="quiet" href=${exportUrl(item.id, "markdown")} download><${Icon} name="download" />Export as Markdown</a>
        <a class="quiet" href=${exportUrl(item.id, "json")} download><${Icon} name="download" />Export as JSON</a>
        <button type="button" class="quiet danger" onClick=${choose(() => setAsking(true))}><${Icon} name="bin" />Delete</button>
      </div>
    </details>
    ${asking ? html`<${Sure} title=${title} yes=${() => session.remove(item.id)} close=${() => setAsking(false)} />` : null}
  </li>`;
}

function Sure({ title, yes, close }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const done = (action) => () => {
    dialog.current.close();
    action?.();
  };
  return html`<dialog ref=${dialog} class="sheet small" aria-label="Delete the conversation" onClose=${close}>
    <h2>Delete “${title}”?</h2>
    <p>All its branches and files go with it. This cannot be undone.</p>
    <div class="tools"><button type="button" class="primary danger" onClick=${done(yes)}>Delete</button><button type="button" class="soft" onClick=${done()}>Keep</button></div>
  </dialog>`;
}

export function Sidebar({ state, shown, close }) {
  const [words, setWords] = useState("");
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return undefined;
    }
    const timer = setTimeout(() => session.search(words), SEARCH_PAUSE_MS);
    return () => clearTimeout(timer);
  }, [words]);
  const open = (conversationId) => {
    close();
    session.open(conversationId);
  };
  const { list, hits, conversationId } = state;
  return html`<nav id="conversations" class="sidebar ${shown ? "shown" : ""}" aria-label="Conversations">
    <div class="sidebar-head">
      <button type="button" class="primary" onClick=${() => open(null)}><${Icon} name="plus" />New conversation</button>
      <button type="button" class="quiet narrow-only" aria-label="Close" title="Close" onClick=${close}><${Icon} name="close" /></button>
    </div>
    <input type="search" aria-label="Search conversations" placeholder="Search" value=${words} onInput=${(event) => setWords(event.target.value)} />
    ${hits
      ? html`<ul class="items hits">
          ${hits.map(
            (hit, index) => html`<li class="item" key=${index}>
              <button type="button" class="open" onClick=${() => openHit(hit, close)}>
                ${hit.title || "Untitled"}<span class="snippet">${hit.snippet}</span>
              </button>
            </li>`,
          )}
          ${hits.length ? null : html`<li class="faint empty">Nothing found.</li>`}
        </ul>`
      : html`<ul class="items">
          ${list.items.map((item) => html`<${Item} key=${item.id} item=${item} current=${item.id === conversationId} onOpen=${open} />`)}
          ${list.items.length ? null : html`<li class="faint empty">No conversation yet.</li>`}
        </ul>`}
    ${!hits && list.next ? html`<button type="button" class="soft" onClick=${session.loadMore}>Older conversations</button>` : null}
  </nav>`;
}

async function openHit(hit, close) {
  close();
  await session.open(hit.id);
  const { path, turns } = session.store.get();
  if (hit.nodeId && !path.includes(hit.nodeId) && !turns[hit.nodeId]) await session.showBranch(hit.nodeId);
  session.seek(hit.nodeId);
}
