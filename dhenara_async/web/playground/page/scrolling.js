// What scrolls: the thread above the question, or on short screens the thread and the question together.

/** The element that scrolls the thread. */
export function scroller() {
  const main = document.querySelector("main");
  return getComputedStyle(main).overflowY === "visible" ? main.parentElement : main;
}

/** How far an element of the thread lies below the top of what scrolls, when it is not scrolled. */
export const topOf = (element) => element.offsetTop - scroller().offsetTop;
