/**
 * The browser's client of jackfield: one connection to one workspace, which comes back by itself, goes on where it was,
 * and says so when it cannot. One module without dependencies, for pages, workers and Node. Types: client.d.ts.
 *
 *     import { connect } from "/jackfield.js";
 *     const chat = connect("/ws/acme", { token: getToken, sync: loadEverything });
 *     chat.on("message.new", (message) => show(message));
 *
 * Durations are milliseconds. First what is decided, then the connection around it.
 */
const DEFAULTS = {
  patience: 10_000, // from an attempt to its `hello`, from a ping to a sign of life
  backoffBase: 500,
  backoffCap: 20_000,
  stable: 30_000, // a link that stood so long ends a row of failures
  buffer: 64, // requests without an answer
  window: 16, // of which so many are on their way
  typingRepeat: 3_000,
  typingIdle: 5_000,
  presence: false,
  random: Math.random,
  clock: {
    now: () => Date.now(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer),
  },
};
const AWAY_AFTER = 60_000;
const LOOK_WITHIN = 5_000;
const LONGEST_TIMER = 2 ** 31 - 1; // a longer one fires at once
const REMEMBERED = 1_000;
const [CUT, INVALID_TOKEN, NO_ACCESS] = [1006, 4501, 4502];

/** Why a request failed: `code` is the server's, "BUFFER_FULL" or "CLOSED". */
export class JackfieldError extends Error {
  constructor(code, message, { detail, retryAfter, closeCode } = {}) {
    super(message);
    Object.assign(this, { name: "JackfieldError", code, detail, retryAfter, closeCode });
  }
}

/** What a close code asks for: not to come back; or to, after `atLeast` and a backoff; or at random `within`. */
export function verdict(code, reason = "") {
  if (code === 1000 || code === 1003 || code === 1009 || code >= 4500) return { back: false };
  const [, asked] = /^retry_after_ms=(\d{1,9})$/.exec(reason) ?? [];
  if (code === 4001 && asked) return { back: true, within: Number(asked) };
  return { back: true, atLeast: Math.max(code === 1011 ? 5_000 : 0, Number(asked ?? 0)) };
}

/** How long to wait before coming back, after so many failures in a row. */
export function pause({ atLeast, within }, failures, { backoffBase, backoffCap, random }) {
  if (within !== undefined) return random() * within;
  return atLeast + random() * Math.min(backoffCap, backoffBase * 2 ** failures);
}

/** The socket's address, of a path of the page or of a ws:, wss:, http: or https: one. Throws TypeError. */
export function resolve(url, page) {
  const target = new URL(url, page).href.replace(/^http/, "ws").replace(/#.*$/, "");
  if (!/^wss?:/.test(target)) throw new TypeError(`"${url}": give a path, or a ws:, wss:, http: or https: address`);
  return target;
}

/** What a WebSocket is made from. The token stays out of the address, and so of logs, where a header can hold it. */
export function handshake(target, token, cursor) {
  const url = new URL(target);
  url.searchParams.delete("token");
  url.searchParams.set("resume", cursor);
  const fits = /^[!#$%&'*+\-.^_`|~\dA-Za-z]+$/.test(token ?? "");
  if (token && !fits) url.searchParams.set("token", token);
  return { url: url.href, protocols: fits ? ["jackfield.v1", `bearer.${token}`] : [] };
}

/** When a token ends, in milliseconds since 1970; undefined where it does not look like a JWT that says so. */
export function expiry(token) {
  const parts = String(token).split(".");
  if (parts.length !== 3) return undefined;
  try {
    const { exp } = JSON.parse(atob(parts[1].replace(/-/g, "+").replace(/_/g, "/")));
    return Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** How long to wait before refreshing a token that has so long left; a second at least, or it would spin at the end. */
export function refreshIn(left, random) {
  const wanted = left - Math.max(30_000, left * 0.1);
  return Math.max(left / 2, wanted * (1 - 0.1 * random()), 1_000);
}

/** The exact code of an error; a server with strict error codes says it in `detail`. */
export function exactCode({ code, detail }) {
  return code === "INTERNAL_ERROR" && (detail === "UNKNOWN_EVENT" || detail === "INVALID_EVENT") ? detail : code;
}

/** What was asked and is not answered, in the order in which it was asked. */
export class Requests {
  #all = [];
  #held = false;
  #careful = false;

  constructor({ buffer, window }) { Object.assign(this, { buffer, window }); }

  /** Whether it was taken; false when there are too many already. */
  add(request) {
    return this.#all.length < this.buffer && this.#all.push({ ...request, sent: false }) > 0;
  }

  /** Those to send now; they count as sent from here on. */
  due() {
    const unanswered = this.#all.filter(({ sent }) => sent).length;
    const room = this.#held ? 0 : (this.#careful ? 1 : this.window) - unanswered;
    const next = this.#all.filter(({ sent }) => !sent).slice(0, Math.max(0, room));
    for (const request of next) request.sent = true;
    return next;
  }

  /** It was answered: take it out. Undefined when it is none of ours. */
  answered(ref) {
    const index = this.#all.findIndex((request) => request.ref === ref);
    const [request] = index < 0 ? [] : this.#all.splice(index, 1);
    this.#careful &&= this.#all.length > 0;
    return request;
  }

  /** The server wants less: back into its place, nothing until `release`, then one at a time until all are answered. */
  limited(ref) {
    const request = this.#all.find((one) => one.ref === ref);
    if (!request) return false;
    request.sent = false;
    this.#held = this.#careful = true;
    return true;
  }

  release() { this.#held = false; }

  /** The line is gone: nobody knows whether what was on its way arrived, so it is sent again. */
  unsend() { for (const request of this.#all) request.sent = false; }

  /** All of them, to be told that no answer will come. */
  clear() {
    this.#held = this.#careful = false;
    return this.#all.splice(0);
  }
}

/** Which of many keystrokes are worth telling. */
export class Typing {
  #toldAt = new Map();

  constructor({ typingRepeat }) { this.repeat = typingRepeat; }

  /** A keystroke: whether to say so. */
  key(channel, now) {
    const worth = !(now - this.#toldAt.get(channel) < this.repeat);
    if (worth) this.#toldAt.set(channel, now);
    return worth;
  }

  /** No more: whether anybody was told of it. */
  stop(channel) { return this.#toldAt.delete(channel); }
  clear() { this.#toldAt.clear(); }
}

/** The last cursors, so that no durable event is handed out twice. */
export class Seen extends Set {
  /** Whether it is a new one. */
  isNew(cursor) {
    if (this.has(cursor)) return false;
    this.add(cursor);
    if (this.size > REMEMBERED) this.delete(this.values().next().value);
    return true;
  }
}

/** Timers with names; setting one again replaces it. */
class Timers {
  #running = new Map();

  constructor(clock) { this.clock = clock; }

  set(name, ms, run) {
    this.clear(name);
    const fire = () => this.#running.delete(name) && run();
    this.#running.set(name, this.clock.setTimeout(fire, Math.min(Math.max(0, ms), LONGEST_TIMER)));
  }

  has(name) { return this.#running.has(name); }

  clear(...names) {
    for (const name of names) {
      this.clock.clearTimeout(this.#running.get(name));
      this.#running.delete(name);
    }
  }

  clearAll() { this.clear(...this.#running.keys()); }
}

/** A fault in the page's own code: the console and `window.onerror` hear of it, and nothing here stops. */
function report(error) {
  if (globalThis.reportError) globalThis.reportError(error);
  else console.error(error);
}

function parse(text) {
  try {
    const frame = JSON.parse(text);
    return typeof frame?.type === "string" ? frame : undefined;
  } catch {
    return undefined; // not of our server; it is a sign of life all the same
  }
}

/** Connect to a workspace and stay connected, until `close()` or until the server says that it is of no use. */
export function connect(url, options = {}) {
  return new Client(url, options);
}

class Client {
  #listeners = new Map();
  #status = { state: "connecting" };
  #over = false; // close() was called
  #link = null; // the attempt or connection that counts: what an older one still does is not heard
  #hello = null;
  #kept = null; // a token that was given already, for the next attempt
  #refused = false; // a token was refused since the last hello
  #failures = 0; // in a row
  #refs = 0;
  #away = false;
  #seen = new Seen();
  #queue = []; // came, and not handed out
  #syncing = null;
  #target;
  #options;
  #page;
  #clock;
  #timers;
  #requests;
  #typing;
  #unwatch;
  #received; // the newest cursor that came: where to go on
  #handed; // the newest that was handed out

  constructor(url, options) {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...DEFAULTS, page: globalThis, WebSocket: globalThis.WebSocket, ...given };
    if (!this.#options.WebSocket) throw new TypeError("there is no WebSocket here: pass one as options.WebSocket");
    ({ page: this.#page, clock: this.#clock } = this.#options);
    this.#target = resolve(url, this.#page.location?.href);
    this.#timers = new Timers(this.#clock);
    this.#requests = new Requests(this.#options);
    this.#typing = new Typing(this.#options);
    this.#handed = this.#options.cursor || undefined;
    this.#received = this.#handed ?? "";
    this.#watch();
    // Not at once: who connects begins to listen in his next line.
    queueMicrotask(() => this.#status.state === "connecting" && this.#attempt());
  }

  /** The cursor behind the newest event that was handed out; kept with your state, it is `options.cursor` next time. */
  get cursor() { return this.#handed; }

  /** The data of the newest `hello`; null before the first. */
  get hello() { return this.#hello; }

  /** What the listeners of "status" were told last. */
  get status() { return this.#status; }

  /**
   * Listen to events of a type; to all ("*"); to errors that belong to no request ("error"); or to the connection's own
   * state ("status"). Returns what ends it. A listener that throws keeps the event from nobody.
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /**
   * Say something; resolves when the server has handled it, rejects with JackfieldError. Without a connection it waits,
   * and so it does for a rate limit. Where the line is cut before the answer it is sent again: at least once, so what
   * must not happen twice needs an id of yours. A rejection that nobody awaits is an unhandled one, on purpose: what
   * was refused cannot be overlooked.
   */
  request(type, data) {
    return new Promise((resolve, reject) => {
      if (this.#status.state === "closed") throw this.#closed();
      const ref = this.#ref();
      const text = JSON.stringify({ type, data, ref });
      const most = this.#hello?.limits?.max_event_bytes;
      if (new TextEncoder().encode(text).length > most) {
        const detail = `$: expected at most ${most} bytes`; // sent, the server would hang up on it
        throw new JackfieldError("INVALID_EVENT", "The event is not valid.", { detail });
      }
      if (!this.#requests.add({ ref, text, resolve, reject })) {
        throw new JackfieldError("BUFFER_FULL", `${this.#options.buffer} requests have no answer yet`);
      }
      this.#flush();
    });
  }

  /** Call it at every keystroke, and with false when the draft is dropped; how much of it is sent is decided here. */
  typing(channel, isTyping = true) {
    if (!this.#open) return;
    if (isTyping) this.#timers.set(`typing ${channel}`, this.#options.typingIdle, () => this.typing(channel, false));
    const worth = isTyping ? this.#typing.key(channel, this.#clock.now()) : this.#typing.stop(channel);
    if (worth) this.#send({ type: "typing", channel_id: channel, is_typing: isTyping });
  }

  /** Come back now: out of a pause, anew where it is open, or after the server had closed; not after `close()`. */
  reconnect() {
    const { state } = this.#status;
    if (this.#over || state === "connecting") return;
    if (state === "closed") this.#watch();
    this.#refused = false;
    this.#again();
  }

  /** Close for good. Requests without an answer are rejected with "CLOSED". */
  close() {
    this.#over = true;
    if (this.#status.state !== "closed") this.#finish(1000, "");
  }

  // --- coming and going

  get #open() { return this.#link?.openedAt !== undefined; }

  #begin() {
    const link = (this.#link = { token: null, socket: null, openedAt: undefined, lifeBy: Infinity });
    this.#timers.clear("pause");
    this.#timers.set("patience", this.#options.patience, () => this.#lose(link, CUT, "no hello in time"));
    return link;
  }

  #attempt() {
    const link = this.#begin();
    const kept = this.#kept;
    this.#kept = null;
    this.#become({ state: "connecting" });
    if (kept) return this.#dial(link, kept);
    this.#ask(link, (token) => (token || !this.#asks ? this.#dial(link, token) : this.#finish(NO_ACCESS, "no token")));
  }

  #dial(link, token) {
    if (link !== this.#link) return; // somebody who listens to the status closed it
    link.token = token;
    const { url, protocols } = handshake(this.#target, token, this.#received);
    try {
      link.socket = new this.#options.WebSocket(url, protocols);
    } catch (error) {
      report(error);
      return this.#lose(link, CUT, "no socket");
    }
    link.socket.onmessage = ({ data }) => link === this.#link && this.#read(link, data);
    link.socket.onclose = ({ code, reason }) => this.#lose(link, !code || code === 1005 ? CUT : code, reason);
  }

  get #asks() { return typeof this.#options.token === "function"; }

  /** Get a token for a link. It may come when that is over: then it is dropped, the next one asks for itself. */
  async #ask(link, then, failed = () => this.#lose(link, CUT, "no token")) {
    let token;
    try {
      token = await (this.#asks ? this.#options.token() : this.#options.token);
    } catch (error) {
      console.error("jackfield: no token could be had, it is asked for again", error);
      return link === this.#link && failed();
    }
    return link === this.#link && then(token);
  }

  /** The line is gone, or given up. */
  #lose(link, code, reason) {
    if (link !== this.#link) return;
    this.#leave();
    if (this.#clock.now() - link.openedAt >= this.#options.stable) this.#failures = 0;
    const fate = verdict(code, reason);
    if (fate.back) this.#wait(fate, code, reason);
    else if (code === INVALID_TOKEN && this.#asks && !this.#refused) this.#askForAnother(link.token, reason);
    else this.#finish(code, reason);
  }

  #askForAnother(refused, reason) {
    this.#refused = true;
    this.#ask(this.#begin(), (token) => {
      if (!token || token === refused) return this.#finish(INVALID_TOKEN, reason);
      this.#leave();
      this.#kept = token;
      this.#wait({ atLeast: 0 }, INVALID_TOKEN, reason);
    });
  }

  #wait(fate, code, reason) {
    const delay = pause(fate, this.#failures, this.#options);
    this.#failures += 1;
    this.#timers.set("pause", delay, () => this.#attempt());
    this.#become({ state: this.#waiting, code, reason, retryAt: this.#clock.now() + delay });
  }

  // It tries also where the machine says that it has no network: localhost needs none.
  get #waiting() { return this.#page.navigator?.onLine === false ? "offline" : "waiting"; }

  #again() {
    this.#leave();
    this.#attempt();
  }

  /** Let go of the link, without waiting for its end. */
  #leave() {
    const socket = this.#link?.socket;
    this.#link = null;
    this.#timers.clear("patience", "ping", "life", "refresh");
    this.#typing.clear();
    this.#requests.unsend();
    socket?.close(1000);
  }

  #finish(code, reason) {
    this.#leave();
    this.#timers.clearAll();
    this.#unwatch();
    if (this.#syncing || this.#queue.length) this.#forget(); // what came and was not handed out
    const failed = this.#requests.clear();
    this.#become({ state: "closed", code, reason });
    for (const { reject } of failed) reject(this.#closed(code));
  }

  #closed(closeCode = this.#status.code) {
    return new JackfieldError("CLOSED", `the connection is closed (${closeCode})`, { closeCode });
  }

  #become(status) {
    this.#status = Object.freeze(status);
    this.#tell("status", this.#status);
  }

  // --- what comes

  #read(link, text) {
    link.lifeBy = Infinity;
    this.#timers.clear("life");
    const frame = parse(text);
    const data = frame?.data ?? {};
    if (frame?.type === "hello") this.#welcome(link, data);
    else if (frame?.type === "ack") this.#answered(data.ref);
    else if (frame?.type === "pong") this.#pong(frame);
    else if (frame?.type === "error") this.#failed(link, data) || this.#complain(frame);
    else if (frame) this.#receive(link, frame, data);
  }

  #welcome(link, hello) {
    const recovered = hello.resume?.recovered === true;
    link.openedAt = this.#clock.now();
    this.#hello = hello;
    this.#refused = false;
    this.#timers.clear("patience");
    this.#beat(link, hello.heartbeat_interval_ms ?? 30_000);
    this.#awaitExpiry(link);
    if (!recovered) this.#forget();
    this.#advance(hello.cursor);
    this.#become({ state: "open" });
    if (this.#status.state === "closed") return; // by somebody who listens
    if (!recovered && this.#options.sync) this.#sync(hello, hello.resume?.reason ?? null);
    this.#handOut();
    if (this.#away) this.#say("away");
    this.#flush();
  }

  /** What was received is void; the next hello without a recovery brings `sync`. */
  #forget() {
    this.#queue = [];
    this.#syncing = null;
    this.#received = "";
    this.#seen.clear();
  }

  async #sync(hello, reason) {
    const mine = (this.#syncing = {}); // when a later one takes its place, its outcome counts for nothing
    try {
      await this.#options.sync(hello, { reason });
    } catch (error) {
      if (mine !== this.#syncing) return;
      report(error);
      this.#forget();
      if (this.#link) this.#lose(this.#link, CUT, "sync failed");
    }
    if (mine !== this.#syncing) return;
    this.#syncing = null;
    this.#handOut();
  }

  #receive(link, frame, data) {
    if (frame.cursor !== undefined && !this.#seen.isNew(frame.cursor)) return;
    // The server ends what it was told of typing when the message comes: the next keystroke begins anew.
    if (frame.type === "message.new" && data.user_id === this.#hello?.user_id) this.#typing.stop(data.channel_id);
    if (frame.type === "auth.refreshed" && link.offered) {
      link.token = link.offered;
      this.#awaitExpiry(link);
    }
    this.#advance(frame.cursor, frame);
    this.#handOut();
  }

  #pong({ ref, cursor }) {
    this.#advance(cursor);
    this.#handOut();
    this.#answered(ref); // somebody may have asked for it by `request`
  }

  #advance(cursor, frame) {
    this.#received = cursor ?? this.#received;
    this.#queue.push({ cursor, frame });
  }

  /** What came goes to the listeners, in order; unless the state that it belongs to is being loaded. */
  #handOut() {
    while (this.#queue.length && !this.#syncing) {
      const { cursor, frame } = this.#queue.shift();
      this.#handed = cursor ?? this.#handed;
      if (frame) this.#hand(frame);
    }
  }

  #hand(frame) {
    if (frame.type !== "status") this.#tell(frame.type, frame.data ?? {}, frame);
    this.#tell("*", frame.data ?? {}, frame);
  }

  #tell(type, ...what) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(...what);
      } catch (error) {
        report(error);
      }
    }
  }

  /** An error that belongs to no request. It waits for no `sync`: what is loaded does not make it untrue. */
  #complain(frame) {
    if (!this.#listeners.get("error")?.size) console.error("jackfield:", frame.data?.code, frame.data?.message);
    this.#hand(frame);
  }

  // --- what is said

  #send(event) { this.#link.socket.send(JSON.stringify(event)); }

  #ref() {
    this.#refs += 1;
    return `r${this.#refs}`;
  }

  #flush() {
    if (this.#open) for (const { text } of this.#requests.due()) this.#link.socket.send(text);
  }

  #answered(ref) {
    this.#requests.answered(ref)?.resolve();
    this.#flush();
  }

  /** An error; whether it belongs to something that was said with a ref. */
  #failed(link, { ref, code, message, detail, retry_after_ms: retryAfter }) {
    if (ref === undefined) return false;
    if (ref === link.offerRef) return this.#offerFailed(link, exactCode({ code, detail }), retryAfter);
    if (code === "RATE_LIMITED" && this.#requests.limited(ref)) {
      this.#timers.set("held", retryAfter ?? 1_000, () => {
        this.#requests.release();
        this.#flush();
      });
      return true;
    }
    const request = this.#requests.answered(ref);
    request?.reject(new JackfieldError(code, message, { detail, retryAfter }));
    this.#flush();
    return request !== undefined;
  }

  // --- whether the line lives

  #beat(link, interval) {
    this.#timers.set("ping", interval, () => {
      this.#ping(link, this.#options.patience);
      this.#beat(link, interval);
    });
  }

  #ping(link, within) {
    const now = this.#clock.now();
    link.lifeBy = Math.min(link.lifeBy, now + within);
    this.#timers.set("life", link.lifeBy - now, () => this.#lose(link, CUT, "no sign of life"));
    this.#send({ type: "ping" });
  }

  // --- the end of a token

  #awaitExpiry(link) {
    const left = this.#asks ? expiry(link.token) - this.#clock.now() : NaN;
    if (left > 0) this.#refreshAt(link, this.#clock.now() + refreshIn(left, this.#options.random));
  }

  #refreshAt(link, when) {
    const left = when - this.#clock.now(); // asked again each time: no timer runs for a month
    if (left > 0) this.#timers.set("refresh", left, () => this.#refreshAt(link, when));
    else this.#ask(link, (token) => this.#refresh(link, token), () => this.#awaitExpiry(link));
  }

  #refresh(link, token) {
    if (!token) return this.#finish(NO_ACCESS, "no token");
    link.offered = token;
    link.offerRef = this.#ref();
    this.#send({ type: "auth.refresh", data: { token }, ref: link.offerRef });
  }

  #offerFailed(link, code, retryAfter) {
    if (code === "RATE_LIMITED") {
      this.#timers.set("refresh", retryAfter ?? 1_000, () => this.#refresh(link, link.offered));
    } else if (code === "UNKNOWN_EVENT" || code === "INVALID_EVENT") {
      this.#kept = link.offered; // it is not served here, so the token comes in by the door
      this.#again();
    } else return false; // for the listeners; the server ends the connection with the old token
    return true;
  }

  // --- the page around it

  #watch() {
    const watched = new AbortController();
    const watch = (target, type, run) => target?.addEventListener?.(type, run, { signal: watched.signal });
    const { document } = this.#page;
    const hide = () => this.#timers.set("away", AWAY_AFTER, () => this.#say("away"));
    watch(document, "visibilitychange", () => {
      if (document.visibilityState === "hidden") return hide();
      this.#timers.clear("away");
      this.#look();
      if (this.#away) this.#say("online");
    });
    watch(this.#page, "pageshow", ({ persisted }) => persisted && this.#look());
    watch(this.#page, "online", () => this.#look());
    watch(this.#page, "offline", () => {
      if (this.#open) this.#look();
      else if (this.#status.state === "waiting") this.#become({ ...this.#status, state: this.#waiting });
    });
    if (document?.visibilityState === "hidden") hide();
    this.#unwatch = () => watched.abort();
  }

  /** Something has changed, and the timers of a hidden page are late: see at once whether the line lives. */
  #look() {
    if (this.#open) this.#ping(this.#link, Math.min(this.#options.patience, LOOK_WITHIN));
    else if (this.#timers.has("pause")) this.#again();
  }

  #say(status) {
    this.#away = status === "away";
    if (!this.#options.presence || !this.#open) return;
    this.request("presence", { status }).catch((error) => {
      if (exactCode(error) === "UNKNOWN_EVENT") this.#options.presence = false;
    });
  }
}
