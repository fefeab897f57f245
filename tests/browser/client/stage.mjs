/** What the client stands on in these tests: a clock that is told to go on, sockets that obey, and a page. */
import { connect } from "../../../src/jackfield/browser/jackfield.js";

/** Let everything run that waits for no timer. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

export class FakeClock {
  time = Date.UTC(2024, 0, 1);
  timers = new Map();
  #ids = 0;

  now() {
    return this.time;
  }

  setTimeout(run, wanted) {
    const ms = wanted > 2 ** 31 - 1 ? 1 : wanted; // as it really is
    this.timers.set((this.#ids += 1), { at: this.time + ms, run });
    return this.#ids;
  }

  clearTimeout(id) {
    this.timers.delete(id);
  }

  /** Go on by so many milliseconds, and run what is due, each at its time. */
  async pass(ms) {
    await settled();
    const until = this.time + ms;
    for (;;) {
      const [next] = [...this.timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at);
      if (!next) break;
      const [id, { at, run }] = next;
      this.timers.delete(id);
      this.time = Math.max(this.time, at);
      run();
      await settled();
    }
    this.time = until;
  }
}

/** A socket as the browser has it; `say` and `end` are the server's doing. */
class FakeSocket {
  sent = [];
  onmessage = null;
  onclose = null;
  closed = undefined;

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closed ??= code;
  }

  say(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    return settled();
  }

  end(code, reason = "") {
    this.onclose?.({ code, reason });
    return settled();
  }

  hello(data = {}, heartbeat = 30_000) {
    const hello = { connection_id: "c", user_id: "alice", heartbeat_interval_ms: heartbeat, ...data };
    return this.say({ type: "hello", data: hello, workspace_id: "acme", timestamp: "t" });
  }

  event(type, data = {}, cursor = undefined) {
    return this.say({ type, data, workspace_id: "acme", timestamp: "t", cursor });
  }

  error(code, more = {}) {
    return this.say({ type: "error", data: { code, message: `it is ${code}`, ...more }, timestamp: "t" });
  }

  ack(ref) {
    return this.event("ack", { ref });
  }

  /** What was said of a type, the newest last. */
  of(type) {
    return this.sent.filter((event) => event.type === type);
  }
}

class Page extends EventTarget {
  location = { href: "https://chat.example/rooms/1?a=b#c" };
  navigator = { onLine: true };
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });

  happens(type, fields = {}) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
    return settled();
  }

  show(visibilityState) {
    this.document.visibilityState = visibilityState;
    this.document.dispatchEvent(new Event("visibilitychange"));
    return settled();
  }

  network(onLine) {
    this.navigator.onLine = onLine;
    return this.happens(onLine ? "online" : "offline");
  }
}

/** A client on all of that. Chance is `stage.chance`; faults that the client reports are in `stage.reported`. */
export async function stage(t, options = {}, url = "/ws/acme") {
  const self = { clock: new FakeClock(), page: new Page(), sockets: [], states: [], events: [], chance: 1 };
  self.reported = [];
  t.mock.method(console, "error", (...what) => self.reported.push(what));
  class Socket extends FakeSocket {
    constructor(...made) {
      super(...made);
      self.sockets.push(this);
    }
  }
  const surroundings = { WebSocket: Socket, clock: self.clock, page: self.page, random: () => self.chance };
  self.chat = connect(url, { ...surroundings, token: "secret", ...options });
  self.chat.on("status", (status) => self.states.push(status));
  self.chat.on("*", (data, { type }) => self.events.push(type === "message.new" ? data.id : type));
  Object.defineProperty(self, "socket", { get: () => self.sockets.at(-1) });
  await settled();
  return self;
}

/** The same, with its first `hello` behind it. */
export async function opened(t, options = {}, hello = { cursor: "c0" }) {
  const self = await stage(t, options);
  await self.socket.hello(hello);
  return self;
}

/** How a promise stands: "pending", "done", or the code that it was refused with. */
export async function outcome(promise) {
  const answer = promise.then(
    () => "done",
    ({ code }) => code,
  );
  return Promise.race([answer, settled().then(() => "pending")]);
}

/** A token that looks as a JWT does; `exp` in seconds since 1970. */
export function jwt(exp, more = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part({ sub: "ÿþ~alice?", exp, ...more })}.signature`;
}
