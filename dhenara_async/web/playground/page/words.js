// Numbers and states as words.

const count = new Intl.NumberFormat("en");

export const number = (value) => count.format(value);

export function seconds(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return null;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 10_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 1000)} s`;
}

export function money(cost) {
  if (!cost) return null;
  const amount = Number(cost.amount);
  const sign = cost.currency === "USD" ? "$" : "¤"; // an endpoint's own rates may be of any currency
  if (amount === 0) return `${sign}0`;
  if (amount < 0.0001) return `less than ${sign}0.0001`;
  return sign + (amount < 0.01 ? amount.toPrecision(2) : amount.toFixed(amount < 1 ? 3 : 2));
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export const plural = (value, word) => `${number(value)} ${word}${value === 1 ? "" : "s"}`;

export const FILE_LIMIT = 20e6; // bytes of one file; the server has its own limit

/** The name of a turn's model for people: the name it was asked by, which the user chose. */
export const nameOf = (turn) => turn.modelId ?? turn.model ?? "a model";

/** The models that a question can be sent to, with what the page says of each. */
export function modelLine(model) {
  return model.kind === "plan" ? `${model.id} (${model.members.join(" → ")})` : model.id;
}
