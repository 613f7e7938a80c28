// Numbers and times as text; what is not known is a dash, never 0.

const DASH = "–";
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

export const percent = (share, digits = 0) => (known(share) ? `${(100 * share).toFixed(digits)} %` : DASH);
export const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits) : DASH);
export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en") : DASH);

/** A signed difference of shares, in points. */
export function points(difference, digits = 1) {
  if (!known(difference)) return DASH;
  const text = Math.abs(100 * difference).toFixed(digits);
  return `${difference < 0 ? "−" : "+"}${text}`;
}

export function seconds(value) {
  if (!known(value)) return DASH;
  if (value < 1) return `${Math.round(1000 * value)} ms`;
  if (value < 90) return `${value.toFixed(1)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86400)} days`;
}

export function bytes(value) {
  return known(value) ? (value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`) : DASH;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const clock = (date) => date.toTimeString().slice(0, 5);
export const day = (date) => `${date.getDate()} ${MONTHS[date.getMonth()]}`;

/** Unix seconds as local time: today's as a time, others with their day, other years' with their year. */
export function when(at) {
  if (!known(at)) return DASH;
  const date = new Date(at * 1000);
  const today = new Date();
  if (date.toDateString() === today.toDateString()) return clock(date);
  const year = date.getFullYear() === today.getFullYear() ? "" : ` ${date.getFullYear()}`;
  return `${day(date)}${year} ${clock(date)}`;
}

/** sn-0007-3f9a1c as sn-0007; the base by its name. */
export const short = (adapter) => (adapter ? adapter.split("-").slice(0, 2).join("-") : "base");
