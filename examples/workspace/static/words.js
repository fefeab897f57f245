/** How the page says things: moments, names, counts. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const DAY = 86_400_000;
const HUES = 8;

export const REACTIONS = {
  "👍": "thumbs up",
  "❤️": "heart",
  "😂": "laughing",
  "🎉": "hooray",
  "👀": "looking",
  "✅": "done",
};

export function time(moment) {
  return clock.format(new Date(moment));
}

export function fullTime(moment) {
  return whole.format(new Date(moment));
}

export function day(moment) {
  const that = new Date(moment).setHours(0, 0, 0, 0);
  const today = new Date().setHours(0, 0, 0, 0);
  if (that === today) return "Today";
  if (Math.round((today - that) / DAY) === 1) return "Yesterday";
  return date.format(that);
}

/** A moment in the middle of a sentence. */
export function when(moment) {
  const name = day(moment);
  return `${["Today", "Yesterday"].includes(name) ? name.toLowerCase() : short.format(new Date(moment))}, ${time(moment)}`;
}

export function initials(name) {
  const words = name.split(/\s+/);
  return (words[0][0] + (words.length > 1 ? words.at(-1)[0] : "")).toUpperCase();
}

/** One colour a user, always the same. */
export function hue(id) {
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return sum % HUES;
}

export function first(name) {
  return name.split(/\s+/)[0];
}

export function list(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

export function typing(names) {
  if (names.length === 0) return "";
  if (names.length > 3) return "Several people are typing…";
  return `${list(names)} ${names.length === 1 ? "is" : "are"} typing…`;
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}
