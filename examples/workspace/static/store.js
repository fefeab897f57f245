/**
 * What the page knows, and how each event changes it. No document and no network in here, so that it can be tried alone.
 *
 * Every event says what is now, never what is different, so that one that was applied before changes nothing. That is
 * what lets a page of messages be loaded while events come: they are applied once more behind it (`begin`, `finish`).
 */

const NOBODY = { id: "", name: "Somebody" };

export class Store {
  me = "";
  emoji = [];
  users = new Map(); // id → { id, name }
  channels = new Map(); // id → { id, name, type, description, created_by, members, read_at, unread: Map(id → moment) }
  messages = new Map(); // id → message; those that are on their way have `pending` or `failed`
  lists = new Map(); // channel → { ids, more }; only of those that have been opened
  threads = new Map(); // parent → { ids }
  presence = new Map(); // user → "online" or "away"
  typing = new Map(); // channel → Set of users
  unknown = new Set(); // channels that an event named and that have to be loaded
  open = ""; // the channel that is shown
  thread = ""; // the message whose thread is shown
  attentive = true; // somebody looks at the page
  divider = ""; // the first message that was new when he began to look
  #loads = new Set();

  // --- loading

  /** Everything anew; `page` and `thread` are those of what is open, if anything is. */
  reset({ me, users, channels, emoji }, page, thread) {
    const leaving = [...this.messages.values()].filter(({ pending, failed }) => pending || failed);
    this.me = me;
    this.emoji = emoji;
    this.users = new Map(users.map((user) => [user.id, user]));
    this.channels = new Map();
    for (const channel of channels) this.putChannel(channel);
    this.messages.clear();
    this.lists.clear();
    this.threads.clear();
    this.unknown.clear();
    this.#loads.clear(); // what they bring is older than this
    if (!this.channels.has(this.open)) this.open = this.thread = "";
    if (page) this.putPage(this.open, page);
    if (thread) this.putThread(thread);
    else this.thread = "";
    for (const message of leaving) if (!this.messages.has(message.id)) this.#put(message);
    this.#listPending();
  }

  /** Something is being loaded: from here on events are remembered, until `finish`. */
  begin() {
    const load = [];
    this.#loads.add(load);
    return load;
  }

  /** It came, and is put in; then what happened meanwhile, once more. False: all was loaded anew since, ask again. */
  finish(load, put) {
    if (!this.#loads.delete(load)) return false;
    put?.();
    for (const [type, data] of load) this.#apply(type, data);
    return true;
  }

  putChannel({ unread, ...channel }) {
    this.channels.set(channel.id, { ...channel, unread: new Map(unread.map(({ id, created_at }) => [id, created_at])) });
    this.unknown.delete(channel.id);
  }

  /** A page of a channel's messages; the newest, or the one before those that are there. */
  putPage(channel, { messages, more }) {
    const list = this.lists.get(channel) ?? { ids: [], more: true };
    this.lists.set(channel, { ...list, more });
    for (const message of messages) this.#put(message);
    this.#listPending();
  }

  putThread({ parent, messages }) {
    if (!this.threads.has(parent.id)) this.threads.set(parent.id, { ids: [] });
    for (const message of [parent, ...messages]) this.#put(message);
    this.#listPending();
  }

  // --- what the connection says

  /** A connection is open: who is there, and who types, is in its hello. */
  hello({ state }) {
    // Of more than a thousand only some are named; a page as large as that would send `presence.watch`.
    const users = state.presence?.users ?? state.presence ?? [];
    this.presence = new Map(users.map(({ user_id, status }) => [user_id, status]));
    this.typing.clear();
    for (const { channel_id, user_id } of state.typing ?? []) this.#types(channel_id, user_id);
  }

  /** It is not: nobody knows any more who types, and the others do not see us. */
  lost() {
    this.typing.clear();
    this.presence.delete(this.me);
  }

  /** An event, as it came. */
  apply(type, data) {
    for (const load of this.#loads) load.push([type, data]);
    this.#apply(type, data);
  }

  #apply(type, data) {
    switch (type) {
      case "message.new":
        return this.#messageNew(data);
      case "message.updated":
        return this.#change(data.id, (message) =>
          data.updated_at < (message.updated_at ?? "") ? {} : { content: data.content, updated_at: data.updated_at },
        );
      case "message.deleted":
        for (const channel of this.channels.values()) channel.unread.delete(data.id);
        return this.#change(data.id, () => ({ content: "", deleted_at: data.deleted_at, reactions: [] }));
      case "thread.updated":
        return this.#change(data.parent_message_id, () => ({
          reply_count: data.reply_count,
          last_reply_at: data.last_reply_at,
        }));
      case "reaction.added":
      case "reaction.removed":
        return this.#change(data.message_id, ({ reactions }) => {
          const others = reactions.filter(({ emoji, user_id }) => emoji !== data.emoji || user_id !== data.user_id);
          if (type === "reaction.removed") return { reactions: others };
          if (others.length < reactions.length) return {};
          return { reactions: [...reactions, { emoji: data.emoji, user_id: data.user_id }] };
        });
      case "typing.start":
        return this.#types(data.channel_id, data.user_id);
      case "typing.stop":
        return this.typing.get(data.channel_id)?.delete(data.user_id);
      case "presence.updated":
        if (data.status === "offline") return this.presence.delete(data.user_id);
        return this.presence.set(data.user_id, data.status);
      case "channel.created":
        // What the event does not say (who is in it, how far it is read) is asked for.
        return this.channels.has(data.id) || this.unknown.add(data.id);
      case "channel.updated":
        return this.#changeChannel(data.id, ({ name, description }) => ({
          name: data.name ?? name,
          description: data.description ?? description,
        }));
      case "channel.deleted":
        return this.#forget(data.id);
      case "member.joined":
        if (!this.channels.has(data.channel_id) && data.user_id === this.me) return this.unknown.add(data.channel_id);
        return this.#changeChannel(data.channel_id, ({ members }) => ({
          members: [...new Set([...members, data.user_id])].sort(),
        }));
      case "member.left":
        if (data.user_id === this.me) return this.#forget(data.channel_id);
        return this.#changeChannel(data.channel_id, ({ members }) => ({
          members: members.filter((id) => id !== data.user_id),
        }));
      case "channel.read":
        return this.#changeChannel(data.channel_id, ({ unread, read_at }) => ({
          read_at: data.read_at > read_at ? data.read_at : read_at,
          unread: new Map([...unread].filter(([, moment]) => moment > data.read_at)),
        }));
      default: // an event of a later version of this application
        return undefined;
    }
  }

  // --- what its user does

  /** Look at a channel. */
  show(channel) {
    this.open = channel;
    this.thread = "";
    const unread = [...(this.channels.get(channel)?.unread ?? [])].sort(([, one], [, other]) => (one < other ? -1 : 1));
    this.divider = unread[0]?.[0] ?? "";
  }

  /** A message that is on its way; it looks like any other, but for its mark. */
  sending(message) {
    this.#put({ reactions: [], reply_count: 0, ...message, pending: true });
    this.#listPending();
  }

  /** The server did not take it, and why. */
  failed(id, why) {
    this.#change(id, () => ({ pending: false, failed: why }));
  }

  /** It is not to be sent any more. */
  discard(id) {
    this.messages.delete(id);
    for (const list of [...this.lists.values(), ...this.threads.values()]) list.ids = list.ids.filter((one) => one !== id);
  }

  /** The server has it: as if its event had come, which may be on its way still. */
  sent(message) {
    if (this.messages.get(message.id)?.pending !== undefined) this.#put(message);
  }

  // --- asked by the view

  user(id) {
    return this.users.get(id) ?? { ...NOBODY, id };
  }

  get channel() {
    return this.channels.get(this.open);
  }

  list(channel) {
    return (this.lists.get(channel)?.ids ?? []).map((id) => this.messages.get(id));
  }

  replies(parent) {
    return (this.threads.get(parent)?.ids ?? []).map((id) => this.messages.get(id));
  }

  /** The newest message of the open channel that he sees and has not said so: it is to be marked as read. */
  get toMark() {
    const { channel } = this;
    if (!channel || !this.attentive) return undefined;
    const newest = this.list(channel.id).findLast(({ user_id }) => user_id !== this.me);
    return newest && newest.created_at > channel.read_at ? newest : undefined;
  }

  /** The other one of a direct message. */
  other(channel) {
    return channel.members.find((id) => id !== this.me) ?? this.me;
  }

  /** The channel of two, with this user. */
  direct(user) {
    return [...this.channels.values()].find((one) => one.type === "direct" && one.members.includes(user));
  }

  typists(channel) {
    return [...(this.typing.get(channel) ?? [])].filter((id) => id !== this.me);
  }

  get unread() {
    return [...this.channels.values()].reduce((sum, { unread }) => sum + unread.size, 0);
  }

  // --- how it is kept

  #messageNew(message) {
    const channel = this.channels.get(message.channel_id);
    this.typing.get(message.channel_id)?.delete(message.user_id);
    if (!this.messages.has(message.id) || this.messages.get(message.id).pending !== undefined) {
      this.#put({ reply_count: 0, ...message });
    }
    if (!channel || message.parent_message_id || message.user_id === this.me) return;
    if (message.created_at <= channel.read_at) return; // read already, in another tab
    if (this.open === channel.id && this.attentive) return; // he sees it come
    channel.unread.set(message.id, message.created_at);
    if (this.open === channel.id) this.divider ||= message.id;
  }

  #put(message) {
    const list = message.parent_message_id
      ? this.threads.get(message.parent_message_id)
      : this.lists.get(message.channel_id);
    if (!list && !message.pending && !message.failed && !this.threads.has(message.id)) return;
    this.messages.set(message.id, message);
    if (!list) return;
    if (!list.ids.includes(message.id)) list.ids = [...list.ids, message.id];
    list.ids = list.ids.sort((one, other) => this.#order(this.messages.get(one), this.messages.get(other)));
  }

  /** Those that are on their way stand last, in a list that was loaded after they were written, too. */
  #listPending() {
    for (const message of this.messages.values()) if (message.pending || message.failed) this.#put(message);
  }

  #order(one, other) {
    const waits = Boolean(one.pending || one.failed) - Boolean(other.pending || other.failed);
    return waits || (one.created_at < other.created_at ? -1 : one.created_at > other.created_at ? 1 : 0);
  }

  #change(id, change) {
    const message = this.messages.get(id);
    if (message) this.messages.set(id, { ...message, ...change(message) });
  }

  #changeChannel(id, change) {
    const channel = this.channels.get(id);
    if (channel) this.channels.set(id, { ...channel, ...change(channel) });
  }

  #types(channel, user) {
    if (!this.typing.has(channel)) this.typing.set(channel, new Set());
    this.typing.get(channel).add(user);
  }

  #forget(channel) {
    this.channels.delete(channel);
    this.unknown.delete(channel);
    this.lists.delete(channel);
    for (const [id, message] of this.messages) if (message.channel_id === channel) this.messages.delete(id);
    if (this.open === channel) this.open = this.thread = "";
  }
}
