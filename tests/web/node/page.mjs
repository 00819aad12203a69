// A page with useChat of @ai-sdk/react. What it shows is read from its DOM by shown().
//
// The query of its URL names the "chat" that it shows, the "model" that answers, and the "history" that it begins with:
// the "server"'s, or "nothing"; or, of the messages that a page with a "new" chat keeps, "all" of them, those up to the
// "question", or the "turns" before it. "made=yes" makes the Chat outside of the hook.

import { StrictMode, createElement as h, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from 'ai';
import { Chat, useChat } from '@ai-sdk/react';

const place = new URLSearchParams(location.search);
const id = place.get('chat');
const history = place.get('history');
const api = '/api/chat';

async function begin() {
  if (history === 'server') return (await (await fetch(`${api}/${encodeURIComponent(id)}`)).json()).messages;
  const kept = history === 'new' ? [] : JSON.parse(localStorage.getItem(id));
  const asked = kept.findLastIndex((message) => message.role === 'user');
  return { new: [], nothing: [], all: kept, question: kept.slice(0, asked + 1), turns: kept.slice(0, asked) }[history];
}

function Part({ part, answer }) {
  if (part.type === 'text') return h('p', { 'data-state': part.state }, part.text);
  if (part.type === 'reasoning') return h('details', { 'data-state': part.state }, part.text);
  if (part.type === 'source-url') return h('a', { href: part.url }, part.title);
  if (part.type === 'file') return h('img', { src: part.url, alt: part.mediaType });
  if (part.type !== 'dynamic-tool') return h('i', null, part.type);
  return h(
    'fieldset',
    { 'data-state': part.state },
    h('code', null, JSON.stringify([part.toolName, part.input, part.output ?? null])),
    part.state === 'approval-requested' && [
      h('button', { key: 'yes', onClick: () => answer({ id: part.approval.id, approved: true }) }, 'Approve'),
      h('button', { key: 'no', onClick: () => answer({ id: part.approval.id, approved: false, reason: 'Not now.' }) }, 'Deny'),
    ],
  );
}

const messages = await begin();
const transport = new DefaultChatTransport({
  api,
  body: () => ({ model: new URLSearchParams(location.search).get('model') ?? undefined }),
});
const options = { id, messages, transport, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses };
let finished;
const made = place.has('made') && new Chat({ ...options, onFinish: () => finished() });

function Page() {
  const [ended, setEnded] = useState(0);
  const [text, setText] = useState('');
  const [files, setFiles] = useState();
  finished = () => setEnded((count) => count + 1);
  const chat = useChat({ ...(made ? { chat: made } : { ...options, onFinish: finished }), resume: true });
  if (history === 'new') localStorage.setItem(id, JSON.stringify(chat.messages));
  const stop = () => fetch(`${api}/${encodeURIComponent(id)}/stop`, { method: 'POST' });
  const ask = (event) => {
    event.preventDefault();
    chat.sendMessage({ text, files });
  };
  return h(
    'main',
    null,
    chat.messages.map((message) =>
      h(
        'article',
        { key: message.id, id: message.id, 'data-role': message.role, 'data-tokens': message.metadata?.usage?.outputTokens },
        message.parts.map((part, index) => h(Part, { key: index, part, answer: chat.addToolApprovalResponse })),
        message.role === 'user'
          ? h('button', { onClick: () => chat.sendMessage({ text, messageId: message.id }) }, 'Edit')
          : h('button', { onClick: () => chat.regenerate({ messageId: message.id }) }, 'Again'),
      ),
    ),
    h(
      'form',
      { onSubmit: ask },
      h('input', { type: 'text', value: text, onChange: (event) => setText(event.target.value) }),
      h('input', { type: 'file', onChange: (event) => setFiles(event.target.files) }),
      h('button', null, 'Ask'),
      h('button', { type: 'button', onClick: stop }, 'Stop'),
      h('button', { type: 'button', onClick: chat.stop }, 'Leave'),
    ),
    h('output', { 'data-ended': ended }, chat.status),
    h('strong', null, chat.error?.message ?? ''),
  );
}

async function shown() {
  await Promise.allSettled([...document.images].map((picture) => picture.decode()));
  return read();
}

const read = () => ({
  messages: [...document.querySelectorAll('article')].map((article) => ({
    id: article.id,
    role: article.dataset.role,
    tokens: Number(article.dataset.tokens ?? 0),
    text: [...article.querySelectorAll('p')].map((part) => part.textContent).join(''),
    reasoning: [...article.querySelectorAll('details')].map((part) => part.textContent).join(''),
    tools: [...article.querySelectorAll('fieldset')].map((part) => [part.dataset.state, part.querySelector('code').textContent]),
    sources: [...article.querySelectorAll('a')].map((part) => [part.href, part.textContent]),
    pictures: [...article.querySelectorAll('img')].map((part) => [part.naturalWidth, new URL(part.src).protocol]),
    others: [...article.querySelectorAll('i')].map((part) => part.textContent),
    open: article.querySelectorAll('[data-state=streaming]').length,
  })),
  status: document.querySelector('output').textContent,
  error: document.querySelector('strong').textContent,
});

globalThis.shown = shown;
createRoot(document.body).render(h(StrictMode, null, h(Page)));
