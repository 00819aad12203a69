// One question to several models: their answers side by side, each on its own. The answers of a tool loop stand in one
// column, with the results between them.

import { Fragment } from "./vendor/preact.mjs";
import { useMemo } from "./vendor/hooks.mjs";
import { Answer, AnswerHead, Numbers } from "./answer.js";
import { AnswerTools } from "./answer_tools.js";
import { html, Icon } from "./html.js";
import { Seam } from "./hop.js";
import { ToolResults } from "./parts.js";
import * as session from "./session.js";
import { loopOf } from "./store.js";
import { Question } from "./turn.js";
import { nameOf } from "./words.js";

function Column({ steps, name, before, chosen, models }) {
  const [turn] = steps;
  const last = steps.at(-1);
  return useMemo(
    () => html`<section class="column ${chosen ? "chosen" : ""}" aria-label=${`Answer of ${name}`}>
      <${AnswerHead} turn=${last} />
      <${Seam} report=${turn.report} from=${before ? nameOf(before) : null} to=${nameOf(turn)} />
      ${steps.map(
        (step, place) => html`<${Fragment} key=${step.id}>
          ${place ? html`<${ToolResults} results=${step.toolResults} />` : null}
          <${Answer} turn=${step} />
          ${step === last ? null : html`<${Numbers} turn=${step} />`}
        <//>`,
      )}
      <footer>
        <${Numbers} turn=${last} />
        <${AnswerTools} turn=${turn} last=${last} models=${models} inColumn />
        ${last.status === "running" || last.status === "failed"
          ? null
          : html`<button type="button" class="soft go-on" onClick=${() => session.choose(last.id)}><${Icon} name="check" />Go on with this one</button>`}
      </footer>
    </section>`,
    [...steps, name, before?.modelId, before?.model, chosen, models],
  );
}

// While it runs, a turn has the parts of the steps behind it.
function stepsOf({ nodes, turns }, turn) {
  const steps = loopOf(nodes, turn.id).map((turnId) => turns[turnId]).filter(Boolean);
  const live = steps.findIndex((step) => step.status === "running" || step.endId);
  return live < 0 ? steps : steps.slice(0, live + 1);
}

/** The columns below the path. */
export function Compare({ state, before }) {
  const { models, headId } = state;
  const turns = state.columns.map((turnId) => state.turns[turnId]).filter(Boolean);
  if (!turns.length) return null;
  const [first] = turns;
  const steps = turns.map((turn) => stepsOf(state, turn));
  const names = turns.map(nameOf);
  const named = (place) => (names.indexOf(names[place]) < place ? `${names[place]}, column ${place + 1}` : names[place]);
  const same = turns.every((turn) => turn.question === first.question);
  return html`<article class="turn compare">
    ${same ? html`<${Question} turn=${first} models=${models} />` : null}
    <div class="columns columns-${Math.min(turns.length, 4)}">
      ${turns.map(
        (turn, place) => html`<div class="column-frame" key=${turn.id}>
          ${same ? null : html`<${Question} turn=${turn} models=${models} />`}
          <${Column} steps=${steps[place]} name=${named(place)} before=${before} chosen=${steps[place].some((step) => step.id === headId)} models=${models} />
        </div>`,
      )}
    </div>
  </article>`;
}
