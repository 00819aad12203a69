// What the user does, as calls of the API and changes of the store.

import * as api from "./api.js";
import { applyFrames, createStore, followed, initialState, loopOf, mergePath, resumed, runningIds, shownTurn, startedTurn, withSteps } from "./store.js";
import { nameOf } from "./words.js";

const FLUSH_MS = 60; // tokens are shown in batches: a frame for each of 150 tokens a second would keep the page busy
const POLL_MS = 2000;

export const store = createStore(initialState);

let frames = [];
let flushing = 0;
const feed = new api.EventFeed(
  (frame) => {
    frames.push(frame);
    flushing ||= setTimeout(flush, FLUSH_MS);
  },
  (connected) => store.get().connected !== connected && store.set({ connected }),
);

function flush() {
  flushing = 0;
  const batch = frames;
  frames = [];
  const { turns, ended } = applyFrames(store.get().turns, batch, performance.now());
  store.set({ turns, ...(ended.length ? { status: ended.map(endWords).join(" ") } : {}) });
  const { at } = store.get();
  if (batch.some((frame) => frame.turn === at && frame.end && frame.end.id !== at)) store.set({ at: null }); // a tool loop
  if (ended.length) refresh();
}

function endWords(turn) {
  const words = { complete: "has answered.", interrupted: "was stopped.", failed: "failed." }[turn.status];
  if (turn.waiting?.calls.length) return `${nameOf(turn)} waits for your decision about ${turn.waiting.calls.map((call) => call.name).join(", ")}.`;
  return `${nameOf(turn)} ${words ?? "ended."}`;
}

function fail(error) {
  if (error.name === "AbortError") return;
  store.set({ notice: { message: error.message }, status: "" });
}

/** Run an action; a refusal becomes the notice on the page. */
const asked = (action) => async (...given) => {
  try {
    store.set({ notice: null });
    return await action(...given);
  } catch (error) {
    fail(error);
    return undefined;
  }
};

// The address: the conversation, and the answers that are compared.

function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const compared = (parameters.get("compare") ?? "").split(".").filter(Boolean);
  return { conversationId: parameters.get("c"), columns: compared, at: parameters.get("at") };
}

function writeAddress({ conversationId, columns, at }, replace = true) {
  const place = columns.length ? `&compare=${columns.join(".")}` : at ? `&at=${at}` : "";
  const hash = conversationId ? `#c=${conversationId}${place}` : "#";
  if (location.hash === hash || (!location.hash && hash === "#")) return;
  history[replace ? "replaceState" : "pushState"](null, "", hash);
}

function setColumns(columns, path = store.get().path) {
  loads += 1; // what is on its way is of the columns before
  store.set({ columns, path, at: null });
  writeAddress(store.get());
}

// Conversations.

/** Load the models and the list, open the conversation of the address, and keep in step with other windows. */
export const begin = asked(async () => {
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  document.addEventListener("visibilitychange", () => document.hidden || poll());
  setInterval(poll, POLL_MS);
  const told = await api.models();
  store.set({ models: told.models, tools: told.tools, demo: told.demo, ready: true });
  await Promise.all([loadList(), follow()]);
});

function follow() {
  const { conversationId, columns, at } = readAddress();
  if (conversationId === store.get().conversationId) return undefined;
  return open(conversationId, columns, at);
}

const EMPTY = { title: "", headId: null, version: null, nodes: [], turns: {}, path: [], columns: [], sought: null, notice: null };

/** Open a conversation; null begins a new one. */
export async function open(conversationId, columns = [], at = null) {
  feed.clear();
  frames = [];
  left.clear();
  store.set({ ...EMPTY, conversationId, columns, at });
  writeAddress(store.get(), false);
  if (conversationId) await asked(load)();
}

let loads = 0;
let starting = 0; // turns that the page shows and the server may not know yet

async function load() {
  const { conversationId } = store.get();
  if (!conversationId) return;
  const mine = ++loads; // what an older call is told may be older, too
  let told;
  try {
    told = await api.conversation(conversationId);
  } catch (error) {
    if (error.status !== 404) throw error;
    if (store.get().path.length || store.get().columns.length) return; // its first question is on its way
    await gone();
    return;
  }
  const compared = store.get().columns;
  const running = told.running.filter((turn) => !left.has(turn.turnId));
  // a turn that runs is where the conversation was left, though it is no node yet and the head is elsewhere
  const { headId } = store.get();
  // a head that is neither the old one nor the turn that was begun here: another window goes on elsewhere
  const asked = headId === null || [headId, store.get().at].includes(told.headId) ? store.get().at : null;
  const there = (turnId) => [...told.nodes, ...told.running].some((turn) => (turn.id ?? turn.turnId) === turnId);
  const begins = (turnId) => store.get().turns[turnId]?.status === "running" && !there(turnId);
  if (begins(asked) || compared.some(begins)) return; // the server is about to know it; its end loads all again
  const at = there(asked) ? asked : null;
  const nodes = withSteps(told.nodes, told.running);
  const wanted = compared.length > 1 ? compared.map((turnId) => endOfLoop(nodes, turnId, told.running)) : [running.at(-1)?.turnId ?? at];
  const paths = await Promise.all(wanted.map((nodeId) => pathTo(conversationId, nodeId, compared)));
  if (store.get().conversationId !== conversationId || mine !== loads || starting) return;
  store.set((state) => {
    const known = { ...state.turns };
    const inColumns = {};
    if (compared.length > 1) {
      for (const { turns } of paths) {
        const fork = turns.findIndex((turn) => compared.includes(turn.id));
        for (const turn of fork < 0 ? [] : turns.slice(fork)) inColumns[turn.id] = known[turn.id] = shownTurn(turn, known[turn.id]);
      }
    }
    const merged = mergePath(paths[0].turns, running, known, state.columns);
    return {
      title: told.title,
      headId: told.headId,
      at: at === told.headId ? null : at,
      version: told.version,
      nodes,
      ...merged,
      turns: { ...inColumns, ...merged.turns },
    };
  });
  writeAddress(store.get());
  feed.add(runningIds(store.get()));
}

// The last answer of a tool loop, or the one that runs: the answers behind that are among its parts.
function endOfLoop(nodes, turnId, running) {
  const steps = loopOf(nodes, turnId);
  return steps.find((step) => running.some((turn) => turn.turnId === step)) ?? steps.at(-1);
}

async function pathTo(conversationId, nodeId, compared) {
  try {
    return await api.path(conversationId, nodeId);
  } catch (error) {
    if (error.status !== 404 || !nodeId) throw error;
    return compared.length > 1 ? { turns: [] } : api.path(conversationId); // an address with a turn that is gone
  }
}

async function gone() {
  await open(null);
  store.set({ notice: { message: "This conversation is gone.", advice: "Begin a new one, or choose one of the list." } });
  await loadList();
}

// Running turns that the user has turned away from, to another branch.
const left = new Set();

const turnAway = () => {
  for (const turnId of runningIds(store.get())) left.add(turnId);
};

/** Load what changed. Nobody asked for it: a server that is away is told in the line for that, and asked again. */
function refresh() {
  refreshing = Promise.all([load().catch(missed), loadList().catch(missed)]);
}

let refreshing = Promise.resolve();

const missed = (error) => (error.status === 0 ? store.set({ connected: false, version: store.get().version ?? "" }) : fail(error));

let polling = Promise.resolve();

function poll() {
  const { conversationId, version } = store.get();
  if (!document.hidden && conversationId && version !== null) polling = askVersion(conversationId);
}

async function askVersion(conversationId) {
  try {
    const told = await api.version(conversationId);
    if (store.get().conversationId !== conversationId) return;
    if (told.version === null) await gone();
    else if (told.version !== store.get().version || !store.get().connected) refresh();
    if (!store.get().connected && !runningIds(store.get()).length) store.set({ connected: true });
  } catch (error) {
    if (error.status === 0) store.set({ connected: false });
    else if (error.status === 404) refresh();
  }
}

async function loadList() {
  store.set({ list: await api.conversations() });
}

export const loadMore = asked(async () => {
  const { list } = store.get();
  const more = await api.conversations(list.next);
  store.set({ list: { items: [...list.items, ...more.items], next: more.next } });
});

let searching = null;

/** Search all conversations; no words end the search. */
export const search = asked(async (words) => {
  searching?.abort();
  if (!words.trim()) return store.set({ hits: null });
  searching = new AbortController();
  const found = await api.search(words.trim(), searching.signal);
  return store.set({ hits: found.items });
});

export const rename = asked(async (conversationId, title) => {
  await api.rename(conversationId, title);
  if (conversationId === store.get().conversationId) store.set({ title });
  await loadList();
});

export const remove = asked(async (conversationId) => {
  if (conversationId === store.get().conversationId) {
    store.set({ version: null }); // nobody asks any more for what is gone
    await polling;
    await refreshing;
  }
  await api.remove(conversationId);
  store.set((state) => ({ status: "Conversation deleted.", hits: state.hits?.filter((hit) => hit.id !== conversationId) ?? null }));
  if (conversationId === store.get().conversationId) await open(null);
  await loadList();
});

// Turns.

async function start(parentId, question, files, models, body, replaced = null) {
  const state = store.get();
  const conversationId = state.conversationId ?? api.newId();
  const asks = models.map((model) => ({ turnId: api.newId(), model }));
  const ids = asks.map((ask) => ask.turnId);
  const shown = files.map(({ name, mediaType, size, preview }) => ({ name, mediaType, size, url: preview ?? null }));
  const fresh = asks.map(({ turnId, model }) => ({
    ...startedTurn({ id: turnId, parentId, question, files: shown, modelId: model, siblings: [...siblingsOf(state, parentId), ...ids] }),
    startedAt: performance.now(),
  }));
  const place = parentId === null ? -1 : state.path.indexOf(parentId);
  let path = state.path.slice(0, place + 1);
  if (place < 0 && parentId !== null) {
    const loops = state.columns.map((turnId) => loopOf(state.nodes, turnId));
    path = [...state.path, ...(loops.find((ids) => ids.includes(parentId)) ?? [parentId])]; // an answer of the comparison goes on
  }
  const inColumn = state.columns.includes(replaced);
  const before = { at: state.at, path: state.path, columns: state.columns, turns: state.turns, conversationId: state.conversationId };
  store.set({
    conversationId,
    turns: { ...state.turns, ...Object.fromEntries(fresh.map((turn) => [turn.id, turn])) },
    at: ids.length > 1 || inColumn ? null : ids[0],
    path: ids.length > 1 || inColumn ? path : [...path, ids[0]],
    columns: inColumn ? state.columns.map((turnId) => (turnId === replaced ? ids[0] : turnId)) : ids.length > 1 ? ids : [],
    status: `${models.join(", ")} ${models.length === 1 ? "answers" : "answer"} …`,
  });
  let told;
  starting += 1;
  loads += 1;
  try {
    await moved;
    told = await api.startTurns(conversationId, { ...body, asks });
  } catch (error) {
    store.set(before);
    throw error;
  } finally {
    starting -= 1;
  }
  const refused = told.turns.filter((turn) => turn.error);
  if (refused.length === told.turns.length) {
    const { message, advice } = refused[0].error;
    store.set({ ...before, conversationId, notice: { message, advice }, status: "" });
    writeAddress(store.get(), false);
    return false;
  }
  writeAddress(store.get(), false);
  if (refused.length) {
    store.set((now) => {
      const turns = { ...now.turns };
      for (const { turnId, error } of refused) turns[turnId] = { ...turns[turnId], status: "failed", error };
      return { turns };
    });
  }
  const accepted = told.turns.filter((turn) => !turn.error).map((turn) => turn.turnId);
  feed.add(accepted);
  refresh();
  return true;
}

function siblingsOf(state, parentId) {
  return state.nodes.filter((node) => (node.parentId ?? null) === parentId).map((node) => node.id);
}

/** Ask each of `models` after the turn that is followed; resolves to whether one of them began. */
export const ask = asked((question, files, models) => {
  const parentId = followed(store.get());
  const sent = files.map(({ name, mediaType, data }) => ({ name, mediaType, data }));
  return start(parentId, question, files, models, { kind: "ask", parentId, question, files: sent });
});

/** Answer a question again: a sibling, the old answer stays. */
export const again = asked((turn, model) => {
  const kept = turn.files.map((file) => ({ ...file, preview: file.url }));
  return start(turn.parentId ?? null, turn.question, kept, [model], { kind: "regenerate", nodeId: turn.id }, turn.id);
});

/** Ask the question in other words: a branch, the old one stays. */
export const edit = asked((turn, question, model) => {
  const kept = turn.files.map((file) => ({ ...file, preview: file.url }));
  return start(turn.parentId ?? null, question, kept, [model], { kind: "edit", nodeId: turn.id, question });
});

/** Allow or deny the calls that a turn waits with, by their keys; resolves to whether its answer goes on. */
export const decide = asked(async (turn, decisions) => {
  const { conversationId } = store.get();
  const model = store.get().models.some((one) => one.id === turn.modelId) ? turn.modelId : undefined;
  const { nodeId } = turn.waiting;
  starting += 1;
  loads += 1;
  try {
    const [told] = (await api.startTurns(conversationId, { kind: "resume", nodeId, decisions, model })).turns;
    if (store.get().conversationId !== conversationId) return true;
    if (told.error) {
      store.set({ notice: told.error });
      return false;
    }
    store.set((state) => ({ ...resumed(state, turn, told.turnId), status: `${nameOf(turn)} goes on …` }));
    writeAddress(store.get());
    feed.add([told.turnId]);
  } catch (error) {
    if (error.status !== 409) throw error;
    store.set({ notice: { message: error.message } }); // what has become of it is loaded, and takes its place
  } finally {
    starting -= 1;
    refresh();
  }
  return true;
});

export const stop = asked(async (turnId) => {
  await api.cancel(turnId);
});

export const stopAll = asked(async () => {
  await Promise.all(runningIds(store.get()).map((turnId) => api.cancel(turnId)));
});

let moved = Promise.resolve(); // the newest change of the head; a turn that begins becomes the head after it

function moveHead(nodeId) {
  const moving = api.checkout(store.get().conversationId, nodeId);
  moved = moving.catch(() => undefined);
  return moving;
}

/** Make a node the head: the conversation goes on after it, in every window. */
export const choose = asked(async (nodeId) => {
  turnAway();
  const { columns, nodes, path, turns } = store.get();
  const loop = columns.map((turnId) => loopOf(nodes, turnId)).find((ids) => ids.includes(nodeId)) ?? [];
  setColumns([], [...path, ...loop.filter((turnId) => turns[turnId])]); // at once: a question follows what is seen
  await moveHead(nodeId);
  await load();
});

/** Show the node's branch to its newest end. */
export const showBranch = asked(async (nodeId) => {
  const { nodes, turns } = store.get();
  if (turns[nodeId]?.status === "running" && !left.has(nodeId)) return undefined; // it is shown, and no node yet
  let end = nodeId;
  for (let child; (child = nodes.findLast((node) => node.parentId === end && node.status !== "running")); ) end = child.id;
  turnAway();
  setColumns([]);
  await moveHead(end);
  await load();
});

/** Show the answers side by side, below the turns before them. */
export const compare = asked(async (ids) => {
  setColumns(ids);
  await load();
});

/** Scroll to a turn of the path as soon as it is drawn. */
export const seek = (sought) => store.set({ sought });
export const seekFirst = () => seek(store.get().path[0] ?? null);

export const dryRun = (body, signal) => api.check(store.get().conversationId ?? "new", body, signal);
export const sentRequest = (nodeId) => api.request(store.get().conversationId, nodeId);
export const dismissNotice = () => store.set({ notice: null });
