/** The running chat: what its user does goes to the server, what comes back goes into the store, and the store is shown. */

import { render } from "./dom.js";
import { Refused, ask } from "./http.js";
import { Keys } from "./keys.js";
import { live } from "./live.js";
import { Outgoing } from "./outgoing.js";
import { Screen } from "./screen.js";
import { Store } from "./store.js";

export class Chat {
  store = new Store();
  editing = ""; // "channel <id>" or "thread <id>": the message that is being edited
  everOpen = false;
  loading = false;
  replayed = undefined; // what came behind a connection that came back, for the line that says so
  #token;
  #signedOut;
  #marked = "";
  #ends = new AbortController();

  constructor(token, signedOut) {
    this.#token = token;
    this.#signedOut = signedOut;
    this.store.open = sessionStorage.getItem("open") ?? "";
    this.screen = new Screen(this);
    this.outgoing = new Outgoing((message) => this.#post(message), {
      sent: (message) => this.#did(() => this.store.sent(message)),
      failed: ({ id }, error) => this.#did(() => this.store.failed(id, error.message)),
    });
    this.live = live(this.store, {
      token,
      load: () => this.#load(),
      changed: (type, data) => this.#changed(type, data),
      status: (status) => this.#status(status),
      error: ({ code, message }) => code === "INVALID_TOKEN" || this.screen.notice(message), // that one ends it: 4501
    });
    const { signal } = this.#ends;
    this.keys = new Keys(this, signal);
    document.addEventListener("visibilitychange", () => this.#did(() => this.#look()), { signal });
    for (const type of ["online", "offline"]) addEventListener(type, () => this.#did(() => this.outgoing.again()), { signal });
    this.#look();
    this.screen.draw();
  }

  end() {
    this.#ends.abort();
    this.live.close();
    this.screen.end();
  }

  // --- what comes

  #status(status) {
    if (status.state === "open") {
      const { resume } = this.live.hello;
      this.replayed = resume?.recovered ? resume.replayed : undefined;
      if (this.replayed !== undefined) {
        setTimeout(() => this.#did(() => (this.replayed = undefined)), 4_000);
      }
      this.everOpen = true;
      this.outgoing.again();
    }
    if (status.code === 4501 && status.state === "closed") return this.#signedOut("Your session has ended. Please sign in again.");
    this.screen.draw();
  }

  #changed(type, data) {
    for (const channel of this.store.unknown) this.#loadChannel(channel);
    if (type === "message.new") this.screen.say(data);
    this.#did();
  }

  /** All of it; while it is loaded, events wait. */
  async #load() {
    const { store } = this;
    const before = store.open;
    this.loading = true;
    this.screen.draw();
    const state = await this.ask("GET", "/state");
    const open = firstOf(state.channels.map(({ id }) => id), before);
    const [page, thread] = await Promise.all([
      open && this.ask("GET", `/channels/${open}/messages`),
      store.thread && this.ask("GET", `/messages/${store.thread}/thread`).catch(() => null),
    ]);
    const first = !store.me;
    const elsewhere = store.open !== before && store.open; // he went on while it was loaded
    if (!elsewhere) store.open = open;
    store.reset(state, elsewhere ? null : page, thread);
    if (first) store.show(open);
    else if (elsewhere) this.open(elsewhere);
    this.loading = false;
    this.#did();
  }

  #loadChannel(id) {
    this.store.unknown.delete(id);
    return this.#loaded(`/channels/${id}`, (channel) => this.store.putChannel(channel));
  }

  // --- what its user does

  async open(id) {
    this.live.typing(this.store.open, false);
    this.store.show(id);
    this.editing = "";
    sessionStorage.setItem("open", id);
    this.screen.opened();
    if (!this.store.lists.has(id)) await this.#page(id);
    this.#did();
  }

  async openDirect(user) {
    let channel = this.store.direct(user);
    if (!channel) {
      const load = this.store.begin();
      channel = await this.#attempt("PUT", `/direct/${user}`);
      this.store.finish(load, channel && (() => this.store.putChannel(channel)));
    }
    if (channel) await this.open(channel.id);
  }

  async older() {
    const [oldest] = this.store.list(this.store.open);
    await this.#page(this.store.open, oldest.id);
    this.screen.focusMessage(`channel-${oldest.id}`);
  }

  openThread(id) {
    this.store.thread = id;
    this.editing = "";
    this.screen.openedThread();
    return this.#loaded(`/messages/${id}/thread`, (thread) => this.store.putThread(thread));
  }

  closeThread() {
    const id = this.store.thread;
    this.store.thread = "";
    this.#did();
    this.screen.focusMessage(`channel-${id}`);
  }

  /** It stands there at once, and goes when it can. */
  send(content, parent) {
    const message = {
      id: crypto.randomUUID(),
      channel_id: this.store.open,
      user_id: this.store.me,
      content,
      created_at: new Date().toISOString(),
      ...(parent && { parent_message_id: parent }),
    };
    this.#did(() => this.store.sending(message));
    this.outgoing.add(message);
  }

  resend(id) {
    const { failed, ...message } = this.store.messages.get(id);
    this.#did(() => this.store.sending(message));
    this.outgoing.add(message);
  }

  discard(id) {
    this.#did(() => this.store.discard(id));
  }

  edit(where, id) {
    this.editing = `${where} ${id}`;
    this.screen.draw();
  }

  async saveEdit(id, content) {
    const before = this.store.messages.get(id);
    if (content !== before.content && (await this.#attempt("PATCH", `/messages/${id}`, { content })) === undefined) return;
    this.cancelEdit();
  }

  cancelEdit() {
    const [where, id] = this.editing.split(" ");
    this.editing = "";
    this.screen.draw();
    this.screen.focusMessage(`${where}-${id}`);
  }

  delete(id) {
    return this.#attempt("DELETE", `/messages/${id}`);
  }

  react(id, emoji) {
    const { reactions } = this.store.messages.get(id);
    const mine = reactions.some((one) => one.emoji === emoji && one.user_id === this.store.me);
    return this.#attempt(mine ? "DELETE" : "PUT", `/messages/${id}/reactions/${encodeURIComponent(emoji)}`);
  }

  /** Gives its id. */
  async createChannel({ name, description, type }) {
    const made = await this.ask("POST", "/channels", { id: crypto.randomUUID(), name, description, type });
    if (!this.store.channels.has(made.id)) this.store.putChannel(made);
    return made.id;
  }

  rename(changes) {
    return this.ask("PATCH", `/channels/${this.store.open}`, changes);
  }

  invite(user) {
    return this.ask("PUT", `/channels/${this.store.open}/members/${user}`);
  }

  leave() {
    return this.ask("DELETE", `/channels/${this.store.open}/members/${this.store.me}`);
  }

  async signOut() {
    await this.ask("POST", "/logout").catch(() => null);
    this.#signedOut("You are signed out.");
  }

  // --- the server

  async ask(method, path, body) {
    try {
      return await ask(method, path, body, this.#token);
    } catch (error) {
      if (error.status === 401 && !this.#ends.signal.aborted) this.#signedOut("Your session has ended. Please sign in again.");
      throw error;
    }
  }

  /** What it answers; undefined when it does not, or says no, and then the page says why. */
  async #attempt(...asked) {
    try {
      return await this.ask(...asked);
    } catch (error) {
      this.screen.notice(error instanceof Refused ? `That did not work: ${error.message}.` : "The server does not answer. Try again in a moment.");
      return undefined;
    }
  }

  #post({ id, channel_id, content, parent_message_id }) {
    return this.ask("POST", `/channels/${channel_id}/messages`, { id, content, ...(parent_message_id && { parent_message_id }) });
  }

  async #page(channel, before) {
    await this.#loaded(`/channels/${channel}/messages${before ? `?before=${before}` : ""}`, (page) => {
      this.screen.keepPlace = Boolean(before);
      this.store.putPage(channel, page);
    });
  }

  /** Ask for something, and put it in below what happens meanwhile. */
  async #loaded(path, put) {
    for (let done = false; !done; ) {
      const load = this.store.begin();
      const answer = await this.#attempt("GET", path);
      done = this.store.finish(load, answer && (() => put(answer))) || !answer;
    }
    this.#did();
  }

  #look() {
    this.store.attentive = document.visibilityState === "visible";
  }

  /** Something changed: show it, and say what has been read. */
  #did(change) {
    if (this.#ends.signal.aborted) return;
    change?.();
    const { open, channels } = this.store;
    if (!open && channels.size) this.open(firstOf([...channels.keys()]));
    this.screen.draw();
    const read = this.store.toMark;
    if (!read || read.id === this.#marked) return;
    this.#marked = read.id;
    this.ask("POST", `/channels/${read.channel_id}/read`, { message_id: read.id }).catch(() => (this.#marked = ""));
  }
}

/** The channel to begin with: where he was, or the one that everybody knows. */
function firstOf(ids, last) {
  return [last, "general", ids[0]].find((id) => ids.includes(id)) ?? "";
}
