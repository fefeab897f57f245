/** Everything of the page that is jackfield. */

import { connect } from "/jackfield.js";

/**
 * Keep a store as new as the server.
 * @param {import("./store.js").Store} store
 * @param {{ token: string, load: () => Promise<void>, changed: (type: string, data: object) => void,
 *   status: (status: object) => void, error: (error: { code: string, message: string }) => void }} page `load` brings all of the state: asked for the first time, and when too much
 *   was missed; otherwise what was missed comes by itself, event by event
 */
export function live(store, { token, load, changed, status, error }) {
  const chat = connect("/ws/acme", { token, presence: true, sync: load });
  chat.on("*", (data, { type }) => {
    store.apply(type, data);
    changed(type, data);
  });
  chat.on("status", (now) => {
    if (now.state === "open") store.hello(chat.hello);
    else store.lost();
    status(now);
  });
  chat.on("error", error);
  return chat; // typing(channel), reconnect(), close()
}
