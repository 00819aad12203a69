// Reads our streams with the AI SDK itself: AbstractChat is useChat without React.
//
// Standard input: {"sdk": 6 | 7, "api": URL, "steps": [...]}. A step makes a chat ("chat"), with the first "keep" messages
// of the step before or with what the server has ("load"), then does one of "send" (a text or a message), "regenerate" (a
// message id or true), "approve" (true or a reason), "resume". At "leaveAfter" characters of the answer the page stops reading, at "stopAfter" it asks
// the server to stop. Steps in a list run at once. Standard output: for each step the messages, the status and the error
// that the page shows.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text } from 'node:stream/consumers';

const require = createRequire(process.env.NODE_HOME + '/');
const plan = JSON.parse(await text(process.stdin));
const { AbstractChat, DefaultChatTransport } = await import(pathToFileURL(require.resolve(`ai${plan.sdk}`)));

class State {
  status = 'ready';
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor({ messages, ...init }) {
    super({ ...init, state: new State(messages ?? []) });
  }
}

const words = (messages) =>
  messages.flatMap((message) => message.parts ?? []).map((part) => part.text ?? '').join('');

const headers = { 'x-user': 'ann' };

async function history(step, before) {
  if (step.load) {
    const reply = await fetch(`${plan.api}/${step.chat}`, { headers });
    return (await reply.json()).messages;
  }
  return structuredClone(before?.messages ?? []).slice(0, step.keep ?? 0);
}

async function run(step, before) {
  const problems = [];
  const messages = await history(step, before);
  const chat = new Chat({
    id: step.chat,
    messages,
    transport: new DefaultChatTransport({ api: step.api ?? plan.api, headers, body: step.body }),
    onError: (error) => problems.push(String(error.message ?? error)),
  });
  const limit = step.leaveAfter ?? step.stopAfter;
  const watch = setInterval(() => {
    const last = chat.messages.at(-1);
    if (limit && last?.role === 'assistant' && words([last]).length >= limit) {
      clearInterval(watch);
      if (step.leaveAfter) chat.stop();
      else fetch(`${plan.api}/${step.chat}/stop`, { method: 'POST', headers });
    }
  }, 5);
  if (step.send !== undefined) {
    await chat.sendMessage(typeof step.send === 'string' ? { text: step.send } : step.send);
  } else if (step.regenerate !== undefined) {
    await chat.regenerate(step.regenerate === true ? undefined : { messageId: step.regenerate });
  } else if (step.approve !== undefined) {
    for (const part of chat.messages.at(-1).parts.filter((part) => part.state === 'approval-requested')) {
      const reason = step.approve === true ? undefined : step.approve;
      await chat.addToolApprovalResponse({ id: part.approval.id, approved: step.approve === true, reason });
    }
    await chat.sendMessage();
  } else if (step.resume) {
    await chat.resumeStream();
  }
  clearInterval(watch);
  return { messages: chat.messages, status: chat.status, error: chat.error?.message ?? null, problems };
}

const results = [];
for (const step of plan.steps) {
  const before = results.at(-1);
  if (Array.isArray(step)) results.push(...(await Promise.all(step.map((one) => run(one, before)))));
  else results.push(await run(step, before));
}
process.stdout.write(JSON.stringify(results));
