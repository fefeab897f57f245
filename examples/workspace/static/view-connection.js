/** The line under the head of the page: nothing while all is well. */

import { h } from "./dom.js";
import { count } from "./words.js";

/**
 * @param {{ state: string, code?: number, retryAt?: number }} status of the connection
 * @param {{ everOpen: boolean, online: boolean, loading: boolean, replayed?: number, now: number }} page
 */
export function connection(status, { everOpen, online, loading, replayed, now }) {
  if (status.state === "closed") {
    return bar("bad", `The server has ended the connection (${status.code}).`, button("reconnect", "Connect again"));
  }
  if (status.state === "offline" || (!online && status.state !== "open")) {
    return bar("bad", "You are offline. What you write is sent when you are back.", button("reconnect", "Try now"));
  }
  if (status.state === "waiting") {
    const seconds = Math.max(1, Math.ceil((status.retryAt - now) / 1000));
    // The seconds are for the eye: read out every second, they would be all that is heard.
    return bar("bad", ["Reconnecting", h("span", { "aria-hidden": "true" }, ` in ${seconds} s`), "…"], button("reconnect", "Try now"));
  }
  if (status.state === "connecting") return bar("calm", everOpen ? "Reconnecting…" : "Connecting…");
  if (loading) return bar("calm", everOpen ? "Loading what was missed…" : "Loading…");
  if (replayed !== undefined) {
    return bar("good", replayed ? `You are back; ${count(replayed, "thing")} happened meanwhile.` : "You are back, and missed nothing.");
  }
  return null;
}

function bar(mood, words, after) {
  return h("div", { class: `connection ${mood}` }, h("span", {}, words), after);
}

function button(action, label) {
  return h("button", { "data-action": action }, label);
}
