/** Messages: those of a channel, and those of a thread. */

import { h, icon } from "./dom.js";
import { ICONS } from "./icons.js";
import { avatar, nameOf } from "./view-sidebar.js";
import { REACTIONS, count, day, fullTime, list, time, when } from "./words.js";

const TOGETHER = 5 * 60_000;
const LINK = /(https?:\/\/[^\s<>"']*[^\s<>"'.,:;!?)\]])|`([^`\n]+)`/g;

export function channelLog(store, editing) {
  const { channel } = store;
  if (!channel) return h("p", { class: "empty" }, "Choose a channel.");
  const loaded = store.lists.get(channel.id);
  if (!loaded) return h("p", { class: "empty", key: "loading" }, "Loading…");
  const rows = [];
  let last = null;
  for (const message of store.list(channel.id)) {
    const today = day(message.created_at);
    if (!last || day(last.created_at) !== today) {
      rows.push(h("li", { class: "day", key: `day ${today}` }, h("span", {}, today)));
      last = null;
    }
    if (message.id === store.divider) {
      rows.push(h("li", { class: "new", key: "new" }, h("span", {}, "New")));
      last = null;
    }
    rows.push(row(store, message, { grouped: goesWith(last, message), editing }));
    last = message;
  }
  return [
    loaded.more
      ? h("button", { class: "more", "data-action": "older", key: "older" }, "Show older messages")
      : h("div", { class: "beginning", key: "beginning" }, beginning(store, channel)),
    h("ol", { key: channel.id }, rows),
  ];
}

export function threadLog(store, editing) {
  const parent = store.messages.get(store.thread);
  if (!parent || !store.threads.has(parent.id)) return h("p", { class: "empty" }, "Loading…");
  const replies = store.replies(parent.id);
  let last = null;
  return h(
    "ol",
    { key: parent.id },
    row(store, parent, { grouped: false, editing, inThread: true }),
    h("li", { class: "day", key: "count" }, h("span", {}, replies.length ? count(replies.length, "reply", "replies") : "No replies yet")),
    replies.map((message) => {
      const grouped = goesWith(last, message);
      last = message;
      return row(store, message, { grouped, editing, inThread: true });
    }),
  );
}

function beginning(store, channel) {
  if (channel.type === "direct") return [h("p", {}, `Only you and ${nameOf(store, channel)} read what is written here.`)];
  return [h("p", {}, `This is where ${channel.type === "private" ? "" : "#"}${channel.name} begins.`)];
}

function goesWith(last, message) {
  return (
    last !== null &&
    last.user_id === message.user_id &&
    !last.deleted_at &&
    !message.deleted_at &&
    new Date(message.created_at) - new Date(last.created_at) < TOGETHER
  );
}

function row(store, message, { grouped, editing, inThread }) {
  const user = store.user(message.user_id);
  const classes = ["message", grouped && "grouped", message.pending && "pending", message.failed && "failed"];
  const where = inThread ? "thread" : "channel";
  return h(
    "li",
    {
      class: classes.filter(Boolean).join(" "),
      key: message.id,
      id: `${where}-${message.id}`,
      tabindex: "-1",
      "aria-label": `${user.name}, ${time(message.created_at)}`,
    },
    h("div", { class: "gutter" }, grouped ? moment(message) : avatar(user)),
    h(
      "div",
      { class: "body" },
      !grouped && h("div", { class: "head" }, h("span", { class: "author" }, user.name), moment(message)),
      editing === `${where} ${message.id}` ? editor(message) : content(message),
      reactions(store, message),
      !inThread && thread(message),
      message.failed && failure(message),
    ),
    !message.pending && !message.failed && !message.deleted_at && tools(store, message, inThread),
  );
}

function moment(message) {
  return h("time", { datetime: message.created_at, title: fullTime(message.created_at) }, time(message.created_at));
}

function content(message) {
  if (message.deleted_at) return h("p", { class: "content deleted" }, "This message was deleted.");
  return h(
    "p",
    { class: "content" },
    text(message.content),
    message.updated_at && h("span", { class: "mark", title: fullTime(message.updated_at) }, " (edited)"),
    message.pending && h("span", { class: "mark" }, " Sending…"),
  );
}

/** What was written, its links and its `code`; everything else is text. */
function text(written) {
  const parts = [];
  let from = 0;
  for (const found of written.matchAll(LINK)) {
    parts.push(written.slice(from, found.index));
    parts.push(found[1] ? h("a", { href: found[1], rel: "noreferrer noopener", target: "_blank" }, found[1]) : h("code", {}, found[2]));
    from = found.index + found[0].length;
  }
  return [...parts, written.slice(from)];
}

function editor(message) {
  return h(
    "form",
    { class: "editor", "data-value": message.id, key: "editor" },
    h("textarea", { "aria-label": "Edit the message", rows: 1, maxlength: 4000 }, message.content),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", "data-action": "cancel-edit" }, "Cancel"),
      h("button", { class: "primary" }, "Save"),
    ),
  );
}

function reactions(store, message) {
  const by = new Map();
  for (const { emoji, user_id } of message.reactions) by.set(emoji, [...(by.get(emoji) ?? []), user_id]);
  if (!by.size) return null;
  return h(
    "ul",
    { class: "reactions", "aria-label": "Reactions" },
    [...by].map(([emoji, users]) => {
      const names = list(users.map((id) => (id === store.me ? "you" : store.user(id).name)));
      const mine = users.includes(store.me);
      return h(
        "li",
        { key: emoji },
        h(
          "button",
          {
            class: "reaction",
            "data-action": "react",
            "data-value": message.id,
            "data-emoji": emoji,
            "aria-pressed": String(mine),
            "aria-label": `${REACTIONS[emoji] ?? emoji}, ${users.length}: ${names}`,
            title: names,
          },
          h("span", { "aria-hidden": "true" }, emoji),
          h("span", { "aria-hidden": "true" }, users.length),
        ),
      );
    }),
  );
}

function thread(message) {
  if (!message.reply_count) return null;
  return h(
    "button",
    { class: "replies", "data-action": "thread", "data-value": message.id },
    h("strong", {}, count(message.reply_count, "reply", "replies")),
    message.last_reply_at && h("span", {}, `last one ${when(message.last_reply_at)}`),
  );
}

function failure(message) {
  return h(
    "p",
    { class: "failure" },
    `Not sent: ${message.failed}. `,
    h("button", { "data-action": "resend", "data-value": message.id }, "Try again"),
    h("button", { "data-action": "discard", "data-value": message.id }, "Discard"),
  );
}

function tools(store, message, inThread) {
  const tool = (action, label, path) =>
    h("button", { class: "quiet", "data-action": action, "data-value": message.id, "aria-label": label, title: label }, icon(path));
  const mine = message.user_id === store.me;
  return h(
    "div",
    { class: "tools", role: "group", "aria-label": "What can be done with the message" },
    tool("pick", "Add a reaction", ICONS.smile),
    !inThread && tool("thread", "Reply in a thread", ICONS.reply),
    mine && tool("edit", "Edit", ICONS.edit),
    mine && tool("delete", "Delete", ICONS.bin),
  );
}
