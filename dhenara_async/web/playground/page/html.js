// Templates: htm bound to preact, and the icons.

import htm from "./vendor/htm.module.js";
import { h } from "./vendor/preact.mjs";

export const html = htm.bind(h);

const PATHS = {
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  edit: "M4 20h4L19 9l-4-4L4 16v4zM13 7l4 4",
  copy: "M9 9h10v11H9zM5 15V4h10",
  code: "M8 8l-4 4 4 4M16 8l4 4-4 4",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  tree: "M6 4v16M6 8h6a4 4 0 0 0 4-4M6 16h6a4 4 0 0 1 4 4",
  columns: "M5 5h5v14H5zM14 5h5v14h-5z",
  menu: "M4 7h16M4 12h16M4 17h16",
  clip: "M19 11l-7.5 7.5a4.5 4.5 0 0 1-6.4-6.4L13 4.2a3 3 0 0 1 4.3 4.3L9.6 16a1.5 1.5 0 0 1-2.1-2.1L14 7.4",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  check: "M5 12l5 5 9-10",
};

/** An icon beside or instead of words; the button around it carries the name. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}
