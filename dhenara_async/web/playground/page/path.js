// The turns of the path. Those at its end are drawn first, then earlier ones in slices: a conversation of hundreds of turns
// opens at once, and the page can be used meanwhile. The earliest ones are drawn when somebody comes near them.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import { Compare } from "./compare.js";
import { Seam } from "./hop.js";
import { html } from "./html.js";
import { heldDistance, keepDistance, nearBegin, scroller, topOf } from "./scrolling.js";
import * as session from "./session.js";
import { drawnFrom } from "./store.js";
import { Turn } from "./turn.js";
import { nameOf } from "./words.js";

const SLICE = 2_000; // characters of turns that are drawn at one go, which takes 20 ms
const LARGE = 16_000; // the same where somebody waits for turns that may be far: the slices are fewer
const PAUSE_MS = 10; // between two slices: keys, scrolling and tokens come first
const RECENT = 60; // turns that are drawn at any rate
const STRETCH = 16; // turns of one box: a browser need not look at all that is in a box that moves

/** The place on the path from which on turns are drawn now. */
function useDrawn(turns, { conversationId, sought }) {
  const drawn = useRef(new Set()); // ids
  const due = useRef(false); // a slice is
  const [, setSlices] = useState(0);
  const [all, setAll] = useState(false); // for the search of the browser
  const [printing, setPrinting] = useState(false); // at one go: paper cannot wait
  const from = printing ? 0 : drawnFrom(turns, drawn.current, SLICE, due.current ? (all || sought ? LARGE : SLICE) : 0);
  const above = drawn.current.size > 0 && from < turns.length && !drawn.current.has(turns[from].id);
  const held = above ? heldDistance() : null;
  useLayoutEffect(() => {
    if (held !== null) keepDistance(held);
    drawn.current = new Set(turns.slice(from).map((turn) => turn.id));
    due.current = false;
  });
  useEffect(() => {
    if (!from) return undefined;
    let waiting = 0;
    const draw = () => {
      due.current = true;
      setSlices((number) => number + 1);
    };
    const look = () => {
      if (all || sought || turns.length - from < RECENT || nearBegin()) waiting ||= setTimeout(draw, PAUSE_MS);
    };
    look();
    addEventListener("scroll", look, { capture: true, passive: true });
    return () => {
      clearTimeout(waiting);
      removeEventListener("scroll", look, { capture: true });
    };
  }, [turns.length, turns[from]?.id, all, sought]);
  useEffect(() => {
    const onKey = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "f") setAll(true);
      else if (event.key === "Home" && !event.target.closest("input, textarea, select, dialog")) session.seekFirst();
    };
    const print = () => setPrinting(true);
    const printed = () => setPrinting(false);
    const listeners = { keydown: onKey, beforeprint: print, afterprint: printed };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
      setAll(false);
    };
  }, [conversationId]);
  useEffect(() => {
    if (!sought) return;
    const turn = document.getElementById(`turn-${sought}`);
    if (turn) scroller().scrollTop = topOf(turn); // alone: scrollIntoView would move the frame around it as well
    if (turn || !from) session.seek(null);
  }, [sought, from]);
  return from;
}

/** The path: each turn below the seam to the one before. */
export function Path({ state }) {
  const turns = state.path.map((turnId) => state.turns[turnId]).filter(Boolean);
  const from = useDrawn(turns, state);
  const stretches = [];
  for (let place = from; place < turns.length; place += 1) {
    const number = Math.floor(place / STRETCH);
    const turn = turns[place];
    (stretches[number] ??= []).push(html`<div key=${turn.id}>
      <${SeamAbove} turn=${turn} before=${turns[place - 1]} />
      <${Turn} turn=${turn} models=${state.models} />
    </div>`);
  }
  return html`
    ${stretches.map((drawn, number) => html`<div class="stretch" key=${number}>${drawn}</div>`)}
    ${state.columns.length ? html`<${Compare} key="compare" state=${state} before=${turns.at(-1)} />` : null}
  `;
}

const SeamAbove = ({ turn, before }) =>
  useMemo(
    () => (before ? html`<${Seam} report=${turn.report} from=${nameOf(before)} to=${nameOf(turn)} />` : null),
    [turn.report, nameOf(turn), before && nameOf(before)],
  );
