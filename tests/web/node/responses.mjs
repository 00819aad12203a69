// Asks our Responses API with the AI SDK's provider and with OpenAI's own client, two questions each, the first with a
// tool call.
//
// Standard input: {"url": URL, "models": [...], "broken": a model whose answer is cut}. Standard output: for each client and
// model the words of both answers and the errors, and the errors of both clients at the broken model.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text } from 'node:stream/consumers';

const require = createRequire(process.env.NODE_HOME + '/');
const load = (name) => import(pathToFileURL(require.resolve(name)));
const plan = JSON.parse(await text(process.stdin));
const [{ streamText, tool, jsonSchema, stepCountIs }, { createOpenAI }, { default: OpenAI }] = await Promise.all(
  ['ai6', '@ai-sdk/openai', 'openai'].map(load),
);

const parameters = { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'integer' } } };
const provider = createOpenAI({ baseURL: plan.url, apiKey: 'ann-key' });
const client = new OpenAI({ baseURL: plan.url, apiKey: 'ann-key', maxRetries: 0 });
const questions = ['What is 1 + 2?', 'Sure?'];

async function withSDK(model, store) {
  const add = tool({ inputSchema: jsonSchema(parameters), execute: async ({ a, b }) => String(a + b) });
  const messages = [];
  const shown = { texts: [], reasoning: '', errors: [] };
  for (const content of questions) {
    messages.push({ role: 'user', content });
    const answer = streamText({
      model: provider.responses(model),
      messages,
      tools: { add },
      stopWhen: stepCountIs(3),
      maxRetries: 0,
      onError: () => {},
      providerOptions: { openai: store === undefined ? {} : { store } },
    });
    let words = '';
    for await (const part of answer.fullStream) {
      if (part.type === 'text-delta') words += part.text;
      if (part.type === 'reasoning-delta') shown.reasoning += part.text;
      if (part.type === 'error') shown.errors.push(String(part.error?.message ?? part.error));
      if (part.type === 'finish' && part.finishReason === 'error') shown.errors.push('finish: error');
    }
    shown.texts.push(words);
    if (shown.errors.length) break;
    messages.push(...(await answer.response).messages);
  }
  return shown;
}

async function withClient(model) {
  const tools = [{ type: 'function', name: 'add', parameters, strict: false }];
  const shown = { texts: [], reasoning: '', errors: [] };
  let previous_response_id;
  try {
    for (const question of questions) {
      let input = question;
      let words = '';
      while (input !== undefined) {
        const stream = client.responses.stream({ model, input, tools, previous_response_id });
        stream.on('response.output_text.delta', (event) => (words += event.delta));
        stream.on('response.reasoning_summary_text.delta', (event) => (shown.reasoning += event.delta));
        const response = await stream.finalResponse();
        previous_response_id = response.id;
        const calls = response.output.filter((item) => item.type === 'function_call');
        const results = calls.map(({ call_id, arguments: given }) => {
          const { a, b } = JSON.parse(given);
          return { type: 'function_call_output', call_id, output: String(a + b) };
        });
        input = results.length ? results : undefined;
      }
      shown.texts.push(words);
    }
  } catch (error) {
    shown.errors.push(String(error.message ?? error));
  }
  return shown;
}

const results = {};
for (const model of plan.models) {
  results[model] = [await withSDK(model), await withSDK(model, false), await withClient(model)];
}
results.broken = [await withSDK(plan.broken), await withSDK(plan.broken, false), await withClient(plan.broken)];
console.log(JSON.stringify(results));
