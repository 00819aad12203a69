// Reads our runs with AG-UI's own HttpAgent.
//
// Standard input: {"api": URL, "steps": [...]}. A step makes an agent ("thread") with the messages of the step before
// ("keep" = how many) and runs it with "send" or the decisions in "resume"; or joins the run that is going on ("join"). At "leaveAfter" characters of
// the answer it aborts, at "stopAfter" it asks the server to stop. Standard output: for each step the messages, the
// types of the events and the error.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text } from 'node:stream/consumers';

const require = createRequire(process.env.NODE_HOME + '/');
const { HttpAgent } = await import(pathToFileURL(require.resolve('@ag-ui/client')));
const plan = JSON.parse(await text(process.stdin));
const headers = { 'x-user': 'ann' };
const results = [];
console.warn = () => {};
console.error = () => {};

for (const step of plan.steps) {
  const before = structuredClone(results.at(-1)?.messages ?? []).slice(0, step.keep ?? 0);
  const url = step.join ? `${plan.api}/${step.thread}/stream` : (step.api ?? plan.api);
  const agent = new HttpAgent({ url, headers, threadId: step.thread, initialMessages: before });
  if (step.send) agent.addMessage({ id: crypto.randomUUID(), role: 'user', content: step.send });
  const events = [];
  let error = null;
  let acted = false;
  const limit = step.leaveAfter ?? step.stopAfter;
  const subscriber = {
    onEvent({ event, messages }) {
      events.push(event);
      const last = messages.at(-1);
      if (limit && !acted && last?.role === 'assistant' && (last.content ?? '').length >= limit) {
        acted = true;
        if (step.leaveAfter) agent.abortRun();
        else fetch(`${plan.api}/${step.thread}/stop`, { method: 'POST', headers });
      }
    },
    onRunFailed({ error: failure }) {
      error = String(failure.message ?? failure);
    },
  };
  try {
    await agent.runAgent({ forwardedProps: step.props, resume: step.resume }, subscriber);
  } catch (failure) {
    error = String(failure.message ?? failure);
  }
  results.push({ messages: agent.messages, events, error });
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
