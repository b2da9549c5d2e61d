// Numbers as people read them; what is not known is a dash.

const NONE = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => known(value) ? Math.round(value).toLocaleString("en") : NONE;
/** A number with so many decimals and a real minus sign; −0 is 0. */
export const fixed = (value, digits) => known(value) ? (Number(value.toFixed(digits)) + 0).toFixed(digits).replace("-", "−") : NONE;
export const percent = (value, digits = 1) => known(value) ? `${fixed(100 * value, digits)} %` : NONE;
export const quality = (value) => fixed(value, 3);
/** A prediction of quality, which a straight line may put a little outside of what there is. */
export const expected = (value) => known(value) ? quality(Math.min(1, Math.max(0, value))) : NONE;

export function dollars(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value), sign = value < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size >= 100) return `${sign}$${Math.round(size).toLocaleString("en")}`;
  if (size >= 0.1) return `${sign}$${size.toFixed(2)}`;
  return `${sign}$${size.toPrecision(2).includes("e") ? size.toExponential(1) : size.toPrecision(2)}`;
}

export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 0.01) return `${(value * 1000).toPrecision(2)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`;
}

export const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });
export const moment = (text) => new Date(text).toLocaleString([], { hour12: false });
/** The last part of a model's name, where that still tells the models apart. */
export function short(name, names) {
  const last = name.split("/").at(-1);
  return names.filter((other) => other.split("/").at(-1) === last).length > 1 ? name : last;
}
export const words = (name) => String(name).replaceAll("_", " ");
