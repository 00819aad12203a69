// The server's API, by relative URLs, and the one event stream of all running turns.

/** A refusal of the server or of the network, in words for people. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body, signal) {
  const options = { method, signal, headers: { accept: "application/json" }, cache: "no-store" };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let reply, text;
  try {
    reply = await fetch(`./api/${path}`, options);
    text = await reply.text(); // the connection can break here too
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running?", 0);
  }
  if (!reply.ok) throw new ApiError(text || `The server answered ${reply.status}.`, reply.status);
  return text ? JSON.parse(text) : null;
}

const id = encodeURIComponent;

export const models = () => call("GET", "models");
export const conversations = (before) => call("GET", `conversations?limit=40${before ? `&before=${id(before)}` : ""}`);
export const search = (words, signal) => call("GET", `conversations/search?q=${id(words)}`, undefined, signal);
export const conversation = (conversationId) => call("GET", `conversations/${id(conversationId)}`);
export const version = (conversationId) => call("GET", `conversations/${id(conversationId)}/version`);
export const rename = (conversationId, title) => call("PATCH", `conversations/${id(conversationId)}`, { title });
export const remove = (conversationId) => call("DELETE", `conversations/${id(conversationId)}`);
export const exportUrl = (conversationId, format) => `./api/conversations/${id(conversationId)}/export?format=${format}`;
export const path = (conversationId, nodeId) =>
  call("GET", `conversations/${id(conversationId)}/path${nodeId ? `?node=${id(nodeId)}` : ""}`);
export const startTurns = (conversationId, body) => call("POST", `conversations/${id(conversationId)}/turns`, body);
export const checkout = (conversationId, nodeId) => call("POST", `conversations/${id(conversationId)}/checkout`, { nodeId });
export const cancel = (turnId) => call("POST", `turns/${id(turnId)}/cancel`, {});
export const check = (conversationId, body, signal) =>
  call("POST", `conversations/${id(conversationId)}/check`, body, signal);
export const request = (conversationId, nodeId) =>
  call("GET", `conversations/${id(conversationId)}/nodes/${id(nodeId)}/request`);

/** 32 hexadecimal digits; `crypto.randomUUID` exists in secure contexts alone, and a page may be served by plain HTTP. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Cut a stream of text into the data of its server-sent events. */
export class FrameCutter {
  #text = "";
  #searched = 0;

  /** Return the data of each event that `chunk` completes, in order. */
  feed(chunk) {
    this.#text += chunk.includes("\r") ? chunk.replaceAll("\r", "") : chunk;
    const found = [];
    let end;
    while ((end = this.#text.indexOf("\n\n", this.#searched)) >= 0) {
      const lines = this.#text.slice(0, end).split("\n");
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(line[5] === " " ? 6 : 5));
      if (data.length) found.push(data.join("\n"));
      this.#text = this.#text.slice(end + 2);
      this.#searched = 0;
    }
    this.#searched = Math.max(0, this.#text.length - 1);
    return found;
  }
}

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 5000;

/**
 * One connection for all running turns.
 *
 * A turn that is added, and a connection that breaks, open a new connection; each turn goes on after the last event that
 * was read, by its cursor. Nothing is lost and nothing comes twice.
 */
export class EventFeed {
  #cursors = new Map();
  #abort = null;
  #waiting = 0;
  #wait = FIRST_WAIT_MS;

  /**
   * @param onFrame called with each frame: `{turn, cursor, event}`, `{turn, end}` or `{turn, error}`
   * @param onConnection called with false when the connection is lost, and with true when it stands again
   */
  constructor(onFrame, onConnection = () => {}) {
    this.onFrame = onFrame;
    this.onConnection = onConnection;
  }

  /** Read further turns, from their first event; a turn that is read already goes on. */
  add(turnIds) {
    const fresh = turnIds.filter((turnId) => !this.#cursors.has(turnId));
    for (const turnId of fresh) this.#cursors.set(turnId, "");
    if (fresh.length) this.#reopen();
  }

  /** Stop reading all turns, as when another conversation is opened. */
  clear() {
    this.#cursors.clear();
    this.#abort?.abort();
    clearTimeout(this.#waiting);
  }

  #reopen() {
    clearTimeout(this.#waiting);
    this.#abort?.abort();
    if (!this.#cursors.size) return;
    const abort = new AbortController();
    this.#abort = abort;
    this.#read(abort.signal).then(
      () => this.#again(abort.signal),
      () => this.#again(abort.signal),
    );
  }

  #again(signal) {
    if (signal.aborted || !this.#cursors.size) return;
    this.onConnection(false);
    this.#waiting = setTimeout(() => this.#reopen(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  async #read(signal) {
    const turns = Array.from(this.#cursors, ([turnId, cursor]) => id(turnId) + (cursor ? `:${id(cursor)}` : ""));
    const reply = await fetch(`./api/events?turns=${turns.join(",")}`, { signal, cache: "no-store" });
    if (!reply.ok) throw new ApiError(await reply.text(), reply.status);
    this.onConnection(true);
    const cutter = new FrameCutter();
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      for (const data of cutter.feed(value)) this.#frame(JSON.parse(data));
    }
  }

  #frame(frame) {
    if (!this.#cursors.has(frame.turn)) return; // the end of all, or a turn of a conversation that was left
    this.#wait = FIRST_WAIT_MS;
    if (frame.end || frame.error) this.#cursors.delete(frame.turn);
    else if (frame.cursor) this.#cursors.set(frame.turn, frame.cursor);
    this.onFrame(frame);
  }
}
