/** The list of channels and people, who is signed in, and the head of the open channel. */

import { h, icon } from "./dom.js";
import { ICONS } from "./icons.js";
import { count, hue, initials } from "./words.js";

export function avatar(user) {
  return h("span", { class: `avatar hue-${hue(user.id)}`, "aria-hidden": "true" }, initials(user.name));
}

function statusOf(store, user) {
  return store.presence.get(user) ?? "offline";
}

/** A dot, and its word for those who do not see it. */
function presence(store, user) {
  const status = statusOf(store, user);
  return [h("span", { class: `dot ${status}` }), h("span", { class: "unseen" }, status)];
}

function badge(channel) {
  if (!channel?.unread.size) return null;
  return h("span", { class: "badge" }, channel.unread.size > 99 ? "99+" : channel.unread.size);
}

export function nameOf(store, channel) {
  return channel.type === "direct" ? store.user(store.other(channel)).name : channel.name;
}

function entry(store, { key, channel, action, sign, name, more, dot }) {
  const unread = channel?.unread.size ?? 0;
  return h(
    "li",
    { key },
    h(
      "button",
      {
        class: unread ? "entry unread" : "entry",
        "data-action": action,
        "data-value": key,
        "aria-current": channel !== undefined && channel.id === store.open ? "page" : null,
        "aria-label": [name, more, unread && `${unread} unread`].filter(Boolean).join(", "),
      },
      sign,
      h("span", { class: "name" }, name),
      dot,
      badge(channel),
    ),
  );
}

export function nav(store) {
  const channels = [...store.channels.values()].filter(({ type }) => type !== "direct");
  channels.sort((one, other) => one.name.localeCompare(other.name));
  const people = [...store.users.values()].filter(({ id }) => id !== store.me);
  return [
    h(
      "div",
      { class: "section", key: "channels" },
      h("h2", {}, "Channels"),
      h("button", { class: "quiet", "data-action": "create", "aria-label": "New channel" }, icon(ICONS.plus)),
    ),
    h(
      "ul",
      { key: "channel-list" },
      channels.map((channel) =>
        entry(store, {
          key: channel.id,
          channel,
          action: "open",
          sign: icon(channel.type === "private" ? ICONS.lock : ICONS.hash),
          name: channel.name,
          more: channel.type === "private" && "private",
        }),
      ),
    ),
    h("div", { class: "section", key: "people" }, h("h2", {}, "People")),
    h(
      "ul",
      { key: "people-list" },
      people.map((user) =>
        entry(store, {
          key: user.id,
          channel: store.direct(user.id),
          action: "direct",
          sign: avatar(user),
          name: user.name,
          more: statusOf(store, user.id),
          dot: h("span", { class: `dot ${statusOf(store, user.id)}` }),
        }),
      ),
    ),
  ];
}

export function me(store) {
  const user = store.user(store.me);
  return [
    avatar(user),
    h("span", { class: "name" }, user.name),
    presence(store, user.id),
    h("button", { class: "quiet", "data-action": "sign-out", "aria-label": "Sign out", title: "Sign out" }, icon(ICONS.out)),
  ];
}

export function heading(store) {
  const { channel } = store;
  if (!channel) return h("h1", { id: "channel-name" }, "Acme");
  if (channel.type === "direct") {
    const user = store.user(store.other(channel));
    const status = statusOf(store, user.id);
    return h(
      "div",
      { class: "titles", key: channel.id },
      h("h1", { id: "channel-name" }, user.name),
      h("p", { class: "quiet-text" }, h("span", { class: `dot ${status}` }), status),
    );
  }
  const members = channel.type === "private" ? channel.members.length : store.users.size;
  return [
    h(
      "div",
      { class: "titles", key: channel.id },
      h("h1", { id: "channel-name" }, icon(channel.type === "private" ? ICONS.lock : ICONS.hash), channel.name),
      channel.description && h("p", { class: "quiet-text" }, channel.description),
    ),
    h(
      "button",
      { class: "quiet members", "data-action": "details", key: "details", "aria-label": `${count(members, "member")}, details of the channel` },
      icon(ICONS.people),
      h("span", { "aria-hidden": "true" }, members),
    ),
  ];
}

/** The dialog of a channel: what it is, who is in it, who may come. */
export function details(store) {
  const { channel } = store;
  if (!channel) return null;
  const closed = channel.type === "private";
  const members = closed ? channel.members : [...store.users.keys()];
  const guests = [...store.users.values()].filter(({ id }) => !members.includes(id));
  return [
    h("h2", { id: "details-name" }, channel.name),
    h("form", { id: "rename-form" },
      h("label", {}, "Name ", h("input", { name: "name", maxlength: 40, required: true, autocomplete: "off", value: channel.name })),
      h("label", {}, "What it is about ", h("input", { name: "description", maxlength: 200, autocomplete: "off", value: channel.description })),
      h("div", { class: "buttons" }, h("button", {}, "Save")),
    ),
    h("h3", {}, closed ? count(members.length, "member") : "Everyone is in it"),
    h(
      "ul",
      { class: "people" },
      members.map((id) => h("li", { key: id }, avatar(store.user(id)), h("span", { class: "name" }, store.user(id).name), presence(store, id))),
    ),
    closed && guests.length > 0 &&
      h(
        "form",
        { id: "invite-form" },
        h("label", {}, "Invite ", h("select", { name: "user" }, guests.map(({ id, name }) => h("option", { value: id, key: id }, name)))),
        h("button", { class: "primary" }, "Invite"),
      ),
    h(
      "div",
      { class: "buttons" },
      closed && h("button", { class: "danger", "data-action": "leave" }, "Leave the channel"),
      h("button", { "data-action": "close-dialog" }, "Close"),
    ),
  ];
}
