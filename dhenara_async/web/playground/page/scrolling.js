// What scrolls: the thread above the question, or on short screens the thread and the question together.

/** The element that scrolls the thread. */
export function scroller() {
  const main = document.querySelector("main");
  return getComputedStyle(main).overflowY === "visible" ? main.parentElement : main;
}

/** How far an element of the thread lies below the top of what scrolls, when it is not scrolled. */
export function topOf(element) {
  const area = scroller();
  return element.getBoundingClientRect().top - area.getBoundingClientRect().top + area.scrollTop;
}

/** Whether the reader is less than two screens away from the beginning of what is drawn. */
export function nearBegin() {
  const { scrollTop, clientHeight } = scroller();
  return scrollTop < 2 * clientHeight;
}

const anchors = CSS.supports("overflow-anchor", "auto"); // Safari does not

/**
 * Return how far the top of the view lies above the end of the thread, to hold it there while something is added above;
 * null where the browser does so.
 */
export const heldDistance = () => (anchors ? null : scroller().scrollHeight - scroller().scrollTop);

/** Go back to a distance from the end. */
export function keepDistance(distance) {
  const area = scroller();
  area.scrollTop = area.scrollHeight - distance;
}
