// Calls of tools that wait for a person: each is allowed or denied, then the answer goes on.

import { useState } from "./vendor/hooks.mjs";
import { html, Icon } from "./html.js";
import { pretty, Raw } from "./parts.js";
import * as session from "./session.js";
import { plural } from "./words.js";

function Call({ call, place, decided, decide }) {
  const [reason, setReason] = useState("");
  const denied = decided !== undefined && decided !== true;
  const deny = (event) => {
    event.preventDefault();
    decide(reason.trim() || false);
  };
  return html`<div class="decision" role="group" aria-label=${`Decision about ${call.name}${place}`}>
    <p><b>${call.name}</b> is to run${call.hosted ? " at the provider" : ""} with:</p>
    <${Raw} text=${pretty(call.arguments) || "no arguments"} />
    <form class="decision-bar" onSubmit=${deny}>
      <button type="button" class="primary" aria-pressed=${decided === true ? "true" : null} onClick=${() => decide(true)}><${Icon} name="check" />Approve</button>
      <button type="submit" class="soft" aria-pressed=${denied ? "true" : null}><${Icon} name="close" />Deny</button>
      <input aria-label="Reason to deny" placeholder="Why not (optional)" value=${reason} onInput=${(event) => setReason(event.target.value)} />
    </form>
  </div>`;
}

/** The calls of a turn that wait; one is sent at once, several when all are decided. */
export function Decisions({ turn }) {
  const { calls } = turn.waiting;
  const [decisions, setDecisions] = useState({});
  const [sent, setSent] = useState(false);
  const send = async (decided) => {
    setSent(true);
    document.getElementById("question").focus(); // the buttons go away
    if (!(await session.decide(turn, decided))) setSent(false);
  };
  const decide = (key) => (decision) => {
    const next = { ...decisions, [key]: decision };
    setDecisions(next);
    if (calls.every((call) => call.key in next)) send(next);
  };
  if (sent) return null;
  if (!calls.length) {
    return html`<div class="decisions"><p>The calls have been run, and the model was not told.</p><button type="button" class="primary" onClick=${() => send({})}>Go on</button></div>`;
  }
  const open = calls.filter((call) => !(call.key in decisions)).length;
  return html`<section class="decisions" aria-label="Waits for your decision">
    <p class="decisions-head">Waits for your decision${calls.length > 1 ? `: ${plural(open, "call")} left` : ""}</p>
    ${calls.map(
      (call, index) =>
        html`<${Call} key=${index} call=${call} place=${calls.length > 1 ? `, call ${index + 1}` : ""} decided=${decisions[call.key]} decide=${decide(call.key)} />`,
    )}
  </section>`;
}
