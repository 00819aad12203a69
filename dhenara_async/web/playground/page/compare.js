// One question to several models: their answers side by side, each on its own.

import { useMemo } from "./vendor/hooks.mjs";
import { html, Icon } from "./html.js";
import { Seam } from "./hop.js";
import * as session from "./session.js";
import { Answer, AnswerHead, AnswerTools, Numbers, Question } from "./turn.js";
import { nameOf } from "./words.js";

function Column({ turn, name, before, chosen, models }) {
  return useMemo(
    () => html`<section class="column ${chosen ? "chosen" : ""}" aria-label=${`Answer of ${name}`}>
      <${AnswerHead} turn=${turn} />
      <${Seam} report=${turn.report} from=${before ? nameOf(before) : null} to=${nameOf(turn)} />
      <${Answer} turn=${turn} />
      <footer>
        <${Numbers} turn=${turn} />
        <${AnswerTools} turn=${turn} models=${models} inColumn />
        ${turn.status === "running" || turn.status === "failed"
          ? null
          : html`<button type="button" class="soft go-on" onClick=${() => session.choose(turn.id)}><${Icon} name="check" />Go on with this one</button>`}
      </footer>
    </section>`,
    [turn, name, before?.modelId, before?.model, chosen, models],
  );
}

/** The columns below the path. */
export function Compare({ turns, before, chosenId, models }) {
  const [first] = turns;
  const names = turns.map(nameOf);
  const named = (place) => (names.indexOf(names[place]) < place ? `${names[place]}, column ${place + 1}` : names[place]);
  const same = turns.every((turn) => turn.question === first.question);
  return html`<article class="turn compare">
    ${same ? html`<${Question} turn=${first} models=${models} />` : null}
    <div class="columns columns-${Math.min(turns.length, 4)}">
      ${turns.map(
        (turn, place) => html`<div class="column-frame" key=${turn.id}>
          ${same ? null : html`<${Question} turn=${turn} models=${models} />`}
          <${Column} turn=${turn} name=${named(place)} before=${before} chosen=${turn.id === chosenId} models=${models} />
        </div>`,
      )}
    </div>
  </article>`;
}
