// The state of the page, and pure functions from events to it.

/** A small observable value: `get`, `set` with a patch, `subscribe`. */
export function createStore(initial) {
  let state = initial;
  const listeners = new Set();
  return {
    get: () => state,
    set(patch) {
      state = { ...state, ...(typeof patch === "function" ? patch(state) : patch) };
      for (const listener of listeners) listener(state);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export const initialState = {
  models: [],
  tools: [], // names of the tools that the models may call
  demo: false,
  ready: false,
  list: { items: [], next: null },
  hits: null, // of a search; null = no search
  conversationId: null, // null = a new one, which is made with its first question
  title: "",
  headId: null,
  at: null, // the turn that was begun here; it is shown though a failed one does not become the head; null = the head is shown
  version: null,
  nodes: [], // all nodes of the tree, without their answers
  turns: {}, // by id: those on the path and in columns
  path: [], // ids, root first
  columns: [], // ids of answers shown side by side below the path; none = no comparison
  sought: null, // id of a turn to scroll to as soon as it is drawn
  connected: true,
  notice: null, // {message, advice}: something the user asked for failed
  status: "", // the sentence of the polite live region
};

/** A turn as it is shown between the question and the server's first word of it. */
export function startedTurn({ id, parentId, question, files = [], model = null, modelId = null, askedAt = null, siblings = null }) {
  return {
    id,
    parentId,
    siblings: siblings ?? [id],
    question,
    files,
    model,
    modelId,
    parts: [],
    base: 0,
    status: "running",
    error: null,
    usage: null,
    cost: null,
    askedAt,
    firstWordMs: null,
    durationMs: null,
    report: null,
    seams: [],
    attempts: [],
    warnings: [],
    toolResults: [], // of the calls that it answers to, in place of a question
    waiting: null, // {nodeId, calls}: calls of tools that wait for a decision
  };
}

const FIELD = { text_delta: "text", reasoning_delta: "text", refusal_delta: "text", tool_call_delta: "arguments" };
const KIND = { text_delta: "text", reasoning_delta: "reasoning", refusal_delta: "refusal", tool_call_delta: "tool_call" };

function withPart(turn, place, part) {
  const parts = turn.parts.slice();
  while (parts.length < place) parts.push({ type: "text", text: "" });
  parts[place] = part;
  return { ...turn, parts };
}

/** Return the turn after an event of its stream; `turn` is not changed. */
export function applyEvent(turn, event, now = null) {
  const base = turn.base ?? 0;
  switch (event.type) {
    case "stream_start":
      return { ...turn, model: event.model ?? turn.model, warnings: event.warnings ?? turn.warnings };
    case "part_start": {
      const { kind, name, call_id: callId } = event;
      return withPart(turn, base + event.part_id, { type: kind, text: "", arguments: "", name, call_id: callId, live: true });
    }
    case "text_delta":
    case "reasoning_delta":
    case "refusal_delta":
    case "tool_call_delta": {
      const field = FIELD[event.type];
      const place = base + event.part_id;
      const part = turn.parts[place] ?? { type: KIND[event.type], text: "", arguments: "", live: true };
      const next = withPart(turn, place, { ...part, [field]: (part[field] ?? "") + (event[field] ?? "") });
      if (next.firstWordMs === null && now !== null && turn.startedAt) next.firstWordMs = now - turn.startedAt;
      return next;
    }
    case "part_end":
      // the end of a long part may leave out the text that came in its deltas
      return withPart(turn, base + event.part_id, { ...turn.parts[base + event.part_id], ...event.part, live: false });
    case "usage_update":
      return { ...turn, usage: usageOf(event.usage) };
    case "stream_reset":
      return { ...turn, parts: turn.parts.slice(0, base), restarts: [...(turn.restarts ?? []), event.reason] };
    case "stream_seam":
      return { ...turn, seams: [...turn.seams, { reason: event.reason, at: turn.parts.length, model: event.start?.model }] };
    case "step_start":
      return { ...turn, base: turn.parts.length };
    case "tool_start":
      return { ...turn, parts: [...turn.parts, { ...event.call, type: "tool_run", live: true }] };
    case "tool_progress":
      return changeRun(turn, event.call.call_id, (run) => ({ ...run, progress: event }));
    case "tool_end":
      return changeRun(turn, event.result.call_id, () => event.result);
    case "tool_approval_request":
      return { ...turn, approvals: [...(turn.approvals ?? []), event.call] };
    default:
      return turn; // heartbeats, and events that a later server may add
  }
}

function changeRun(turn, callId, change) {
  const place = turn.parts.findLastIndex((part) => part.type === "tool_run" && part.call_id === callId);
  return place < 0 ? turn : withPart(turn, place, change(turn.parts[place]));
}

function usageOf(usage) {
  return {
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    reasoningTokens: usage.reasoning_tokens,
    known: true,
  };
}

/** Return the turns by id after a batch of frames, and the turns that ended with it. */
export function applyFrames(turns, frames, now = null) {
  const next = { ...turns };
  const ended = [];
  for (const { turn: turnId, event, end, error } of frames) {
    const turn = next[turnId];
    if (end) {
      next[end.id] = end; // a tool loop ends with another node than it began with; the path is loaded again then
      if (end.id !== turnId && turn) next[turnId] = { ...turn, status: end.status, endId: end.id };
      ended.push(end);
    } else if (error && turn) {
      next[turnId] = { ...turn, status: "failed", error: { message: error.message, advice: error.advice ?? "Run it again." } };
      ended.push(next[turnId]);
    } else if (event && turn) {
      next[turnId] = applyEvent(turn, event, now);
    }
  }
  return { turns: next, ended };
}

/**
 * Return what to show of a turn: while it runs, what its events made it here; the end may have come here already.
 *
 * @param told the turn of the server
 * @param mine the turn of the page; undefined if it is new here
 */
export function shownTurn(told, mine) {
  if (told.status !== "running") return same(told, mine) ? mine : told; // what is the same is not drawn again
  return mine ? { ...mine, siblings: told.siblings } : { ...told, parts: [], base: 0, seams: [] }; // events from the first on
}

function same(one, other) {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => same(one[name], other[name]));
}

/** Ids of the answers of a tool loop that began with a turn; the turn alone if it called no tool. */
export function loopOf(nodes, turnId) {
  const ids = [turnId];
  for (let next; (next = nodes.findLast((node) => node.parentId === ids.at(-1) && node.toolResults)); ) ids.push(next.id);
  return ids;
}

/**
 * Return what to show of a conversation: the path as the server told it; turns that run beside its last one become
 * columns.
 *
 * @param told `{turns}` of the path
 * @param running the running turns of the conversation
 * @param known the turns by id that the page has
 * @param columns ids that are compared; those that the server does not know any more are left out
 */
export function mergePath(told, running, known, columns) {
  const turns = {};
  let path = [];
  for (const turn of told) {
    turns[turn.id] = shownTurn(turn, known[turn.id]);
    path.push(turn.id);
    if (turns[turn.id].status === "running") break; // the further answers of its tool loop are among its parts
  }
  for (const { turnId, parentId, model, modelId, question } of running) {
    turns[turnId] ??= known[turnId] ?? startedTurn({ id: turnId, parentId: parentId ?? null, model, modelId, question });
  }
  const compared = columns.filter((turnId) => turns[turnId] || known[turnId]);
  for (const turnId of compared) turns[turnId] ??= known[turnId];
  if (compared.length > 1) {
    const fork = path.findIndex((turnId) => compared.includes(turnId));
    if (fork >= 0) path = path.slice(0, fork);
    return { turns, path, columns: compared };
  }
  const end = path.at(-1);
  const beside = running.filter((turn) => end && (turn.parentId ?? null) === (turns[end].parentId ?? null));
  if (beside.length > 1) return { turns, path: path.slice(0, -1), columns: beside.map((turn) => turn.turnId) };
  return { turns, path, columns: [] };
}

/**
 * Return the place from which on the turns of a path are to be drawn: the last ones that are new, and those that are drawn
 * already.
 *
 * @param drawn ids of the turns that are drawn
 * @param characters of new turns, but one turn at least
 * @param more characters of further turns above
 */
export function drawnFrom(turns, drawn, characters, more) {
  let from = turns.length;
  const isDrawn = () => drawn.has(turns[from - 1].id);
  const slice = (most) => {
    for (let left = most; from > 0 && left > 0 && !isDrawn(); from -= 1) left -= TURN + lengthOf(turns[from - 1]);
  };
  slice(characters);
  while (from > 0 && isDrawn()) from -= 1;
  slice(more);
  return from;
}

const TURN = 500; // characters that take as long as the frame of a turn

const lengthOf = (turn) => turn.parts.reduce((sum, part) => sum + (part.text?.length ?? 0), turn.question.length);

/** The turn that the next question follows; null = it begins the conversation. */
export function followed(state) {
  if (state.columns.length) {
    const complete = state.columns.filter((turnId) => state.turns[turnId]?.status === "complete");
    const chosen = complete.find((turnId) => loopOf(state.nodes, turnId).includes(state.headId)) ?? complete[0];
    if (chosen) return state.turns[chosen].endId ?? loopOf(state.nodes, chosen).at(-1);
  }
  const last = state.path.at(-1) ?? null;
  return state.turns[last]?.endId ?? last;
}

/** Ids of the turns on the screen that run. */
export function runningIds(state) {
  const shown = new Set([...state.path, ...state.columns.flatMap((turnId) => loopOf(state.nodes, turnId))]);
  return Array.from(shown).filter((turnId) => state.turns[turnId]?.status === "running");
}

/** The nodes, and the turns that go on with a tool loop after a decision: each is a step of it before it is a node. */
export function withSteps(nodes, running) {
  const steps = running.filter((turn) => turn.resumes && !nodes.some((node) => node.id === turn.turnId));
  return [...nodes, ...steps.map(({ turnId, ...turn }) => ({ ...turn, id: turnId, status: "running", toolResults: 1 }))];
}

/** What changes when a turn's loop goes on in another turn, behind the node whose calls were decided about. */
export function resumed(state, turn, turnId) {
  const { nodeId } = turn.waiting;
  const { model, modelId } = turn;
  const step = { turnId, parentId: nodeId, question: "", model, modelId, resumes: true };
  const place = state.path.indexOf(nodeId);
  return {
    nodes: withSteps(state.nodes, [step]),
    turns: { ...state.turns, [turn.id]: { ...turn, waiting: null }, [turnId]: startedTurn({ ...step, id: turnId }) },
    path: place < 0 ? state.path : [...state.path.slice(0, place + 1), turnId],
    at: place < 0 ? null : turnId,
  };
}

/** The nodes as a forest, oldest first: `[{node, children}]`. A node whose parent is not there is a root. */
export function forest(nodes) {
  const byId = new Map(nodes.map((node) => [node.id, { node, children: [] }]));
  const roots = [];
  for (const entry of byId.values()) (byId.get(entry.node.parentId)?.children ?? roots).push(entry);
  return roots;
}
