// Every branch of the conversation as an indented list; a fork is indented, a plain exchange is not.

import { useEffect, useRef } from "./vendor/hooks.mjs";
import { html, Icon } from "./html.js";
import * as session from "./session.js";
import { forest } from "./store.js";
import { nameOf } from "./words.js";

const STATES = { failed: "failed", interrupted: "stopped", running: "answering", deleted: "deleted" };

function Branch({ entry, shown, go }) {
  // a chain without forks stays on one level, however long it is
  const chain = [];
  let next = entry;
  while (next) {
    chain.push(next.node);
    if (next.children.length !== 1) break;
    [next] = next.children;
  }
  const forks = next.children;
  return html`
    ${chain.map(
      (node) => html`<li key=${node.id}>
        <button type="button" class="node" aria-current=${shown.has(node.id) ? "true" : null} onClick=${() => go(node.id)}>
          <span class="node-question">${node.question || (node.status === "deleted" ? "(deleted)" : "(tool results)")}</span>
          <span class="node-model">${nameOf(node)}${STATES[node.status] ? ` · ${STATES[node.status]}` : ""}</span>
        </button>
      </li>`,
    )}
    ${forks.length
      ? html`<li class="forks" key="forks">
          <span class="offscreen">${forks.length} branches</span>
          ${forks.map((fork) => html`<ul key=${fork.node.id}><${Branch} entry=${fork} shown=${shown} go=${go} /></ul>`)}
        </li>`
      : null}
  `;
}

/** The tree in a dialog; choosing a node shows its branch up to its newest answer. */
export function Tree({ nodes, shown, close }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const go = (nodeId) => {
    dialog.current.close();
    session.showBranch(nodeId);
  };
  const roots = forest(nodes);
  return html`<dialog ref=${dialog} class="sheet tree" aria-label="All branches" onClose=${close}>
    <header><h2>All branches</h2><button type="button" class="quiet" onClick=${() => dialog.current.close()}><${Icon} name="close" />Close</button></header>
    ${roots.length
      ? roots.map((entry) => html`<ul key=${entry.node.id}><${Branch} entry=${entry} shown=${shown} go=${go} /></ul>`)
      : html`<p class="faint">There is no answer yet.</p>`}
  </dialog>`;
}
