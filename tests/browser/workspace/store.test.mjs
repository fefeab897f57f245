/** The store of the example workspace: what each event makes of what the page knows. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Store } from "../../../examples/workspace/static/store.js";

const at = (second) => `2024-01-01T12:00:${String(second).padStart(2, "0")}.000Z`;

function said(id, second, more = {}) {
  return { id, channel_id: "general", user_id: "bob", content: id, created_at: at(second), reactions: [], ...more };
}

function channel(id, more = {}) {
  return { id, name: id, type: "public", description: "", created_by: "bob", members: [], read_at: at(0), unread: [], ...more };
}

/** Alice's, in which #general is open and loaded, and #lunch is neither. */
function store({ page = { messages: [said("m1", 1)], more: false }, open = "general" } = {}) {
  const made = new Store();
  made.open = open;
  const state = {
    me: "alice",
    users: ["alice", "bob", "carol"].map((id) => ({ id, name: id })),
    channels: [channel("general"), channel("lunch"), channel("board", { type: "private", members: ["alice", "bob"] })],
    emoji: ["👍"],
  };
  made.reset(state, page, null);
  return made;
}

const contents = (made, where = "general") => made.list(where).map(({ content }) => content);

test("a message comes, changes and goes", () => {
  const made = store();
  made.apply("message.new", said("m2", 2));
  made.apply("message.updated", { id: "m2", content: "better", updated_at: at(3) });
  assert.deepEqual(contents(made), ["m1", "better"]);
  made.apply("message.updated", { id: "m2", content: "of before", updated_at: at(2) });
  made.apply("message.new", said("m2", 2)); // published once more
  assert.deepEqual(contents(made), ["m1", "better"]);
  made.apply("message.deleted", { id: "m2", deleted_at: at(4) });
  assert.equal(made.messages.get("m2").deleted_at, at(4));
  assert.equal(made.messages.get("m2").content, "");
});

test("every event twice is every event once", () => {
  const events = [
    ["message.new", said("m2", 2)],
    ["message.new", said("l1", 2, { channel_id: "lunch" })],
    ["message.updated", { id: "m2", content: "better", updated_at: at(3) }],
    ["reaction.added", { message_id: "m1", emoji: "👍", user_id: "bob" }],
    ["reaction.added", { message_id: "m2", emoji: "👍", user_id: "bob" }],
    ["reaction.removed", { message_id: "m2", emoji: "👍", user_id: "bob" }],
    ["thread.updated", { parent_message_id: "m1", reply_count: 2, last_reply_at: at(4) }],
    ["member.joined", { channel_id: "board", user_id: "carol" }],
    ["member.left", { channel_id: "board", user_id: "bob" }],
    ["channel.updated", { id: "lunch", name: "dinner" }],
    ["channel.read", { channel_id: "lunch", read_at: at(2) }],
    ["message.deleted", { id: "m1", deleted_at: at(5) }],
  ];
  const seen = (made) => JSON.stringify([made.list("general"), [...made.channels.values()].map((one) => [one, [...one.unread]])]);
  const once = store();
  for (const event of events) once.apply(...event);
  const twice = store();
  for (const event of [...events, ...events]) twice.apply(...event);
  assert.equal(seen(twice), seen(once));
});

test("what happens while a page is loaded is not lost, whichever of the two was first", () => {
  const changes = [
    ["message.new", said("l2", 2, { channel_id: "lunch" })],
    ["message.updated", { id: "l1", content: "edited", updated_at: at(3) }],
    ["reaction.added", { message_id: "l1", emoji: "👍", user_id: "bob" }],
    ["message.deleted", { id: "l2", deleted_at: at(4) }],
  ];
  const before = { messages: [said("l1", 1, { channel_id: "lunch" })], more: false };
  const after = {
    messages: [
      said("l1", 1, { channel_id: "lunch", content: "edited", updated_at: at(3), reactions: [{ emoji: "👍", user_id: "bob" }] }),
      said("l2", 2, { channel_id: "lunch", content: "", deleted_at: at(4) }),
    ],
    more: false,
  };
  for (const answer of [before, after]) {
    const made = store();
    const load = made.begin();
    for (const event of changes) made.apply(...event);
    made.finish(load, () => made.putPage("lunch", answer));
    assert.deepEqual(contents(made, "lunch"), ["edited", ""]);
    assert.deepEqual(made.messages.get("l1").reactions, [{ emoji: "👍", user_id: "bob" }]);
    assert.equal(made.channels.get("lunch").unread.size, 0);
  }
});

test("a load that failed leaves nothing behind", () => {
  const made = store();
  const load = made.begin();
  made.apply("message.new", said("m2", 2));
  made.finish(load, undefined);
  assert.deepEqual(contents(made), ["m1", "m2"]);
});

test("what was asked for before all was loaded anew is asked for again", () => {
  const made = store();
  const load = made.begin();
  made.reset({ me: "alice", users: [], channels: [channel("general")], emoji: [] }, { messages: [said("m1", 1, { content: "new" })], more: false });
  assert.equal(made.finish(load, () => made.putPage("general", { messages: [said("m1", 1)], more: false })), false);
  assert.deepEqual(contents(made), ["new"]);
  assert.equal(made.finish(made.begin()), true);
});

test("older messages stand in front", () => {
  const made = store();
  made.putPage("general", { messages: [said("m0", 0)], more: true });
  assert.deepEqual(contents(made), ["m0", "m1"]);
  assert.equal(made.lists.get("general").more, true);
});

test("what is on its way stands last, and becomes what it is", () => {
  const made = store();
  made.sending({ id: "mine", channel_id: "general", user_id: "alice", content: "mine", created_at: at(0) });
  made.apply("message.new", said("m2", 50));
  assert.deepEqual(contents(made), ["m1", "m2", "mine"]);
  made.sent(said("mine", 40, { user_id: "alice", content: "mine" })); // the answer of the server
  assert.deepEqual(contents(made), ["m1", "mine", "m2"]);
  made.apply("message.new", said("mine", 40, { user_id: "alice", content: "mine" })); // and its event
  assert.deepEqual(contents(made), ["m1", "mine", "m2"]);
  assert.equal(made.messages.get("mine").pending, undefined);
});

test("the answer of the server undoes nothing that happened after it", () => {
  const made = store();
  made.sending({ id: "mine", channel_id: "general", user_id: "alice", content: "mine", created_at: at(2) });
  made.apply("message.new", said("mine", 2, { user_id: "alice" }));
  made.apply("reaction.added", { message_id: "mine", emoji: "👍", user_id: "bob" });
  made.sent(said("mine", 2, { user_id: "alice" }));
  assert.equal(made.messages.get("mine").reactions.length, 1);
});

test("what is on its way, or was refused, outlives loading all anew", () => {
  const made = store();
  const mine = (id) => ({ id, channel_id: "general", user_id: "alice", content: id, created_at: at(2) });
  made.sending(mine("waits"));
  made.sending(mine("refused"));
  made.sending(mine("arrived"));
  made.failed("refused", "no");
  const channels = [channel("general")];
  const page = { messages: [said("m1", 1), said("arrived", 3, { user_id: "alice" })], more: false };
  made.reset({ me: "alice", users: [], channels, emoji: [] }, page, null);
  assert.deepEqual(contents(made), ["m1", "arrived", "waits", "refused"]);
  assert.equal(made.messages.get("arrived").pending, undefined);
  assert.equal(made.messages.get("refused").failed, "no");
  made.discard("refused");
  assert.deepEqual(contents(made), ["m1", "arrived", "waits"]);
});

test("a reply stands in its thread, not in the channel", () => {
  const made = store();
  made.apply("message.new", said("r0", 2, { parent_message_id: "m1" })); // of a thread that nobody has opened
  made.thread = "m1";
  made.putThread({ parent: said("m1", 1, { reply_count: 1 }), messages: [said("r0", 2, { parent_message_id: "m1" })] });
  made.apply("message.new", said("r1", 3, { parent_message_id: "m1" }));
  assert.deepEqual(contents(made), ["m1"]);
  assert.deepEqual(made.replies("m1").map(({ id }) => id), ["r0", "r1"]);
  assert.equal(made.unread, 0);
});

test("the thread of a message that is above the loaded page", () => {
  const made = store();
  made.thread = "old";
  made.putThread({ parent: said("old", 0, { reply_count: 1 }), messages: [said("r1", 2, { parent_message_id: "old" })] });
  assert.equal(made.messages.get("old").content, "old");
  assert.deepEqual(made.replies("old").map(({ id }) => id), ["r1"]);
});

test("unread is what others say where nobody looks", () => {
  const made = store();
  made.apply("message.new", said("m2", 2));
  made.apply("message.new", said("l1", 3, { channel_id: "lunch" }));
  made.apply("message.new", said("l2", 4, { channel_id: "lunch", user_id: "alice" }));
  made.apply("message.new", said("l3", 5, { channel_id: "lunch" }));
  assert.equal(made.unread, 2);
  made.apply("message.deleted", { id: "l3", deleted_at: at(6) });
  assert.equal(made.unread, 1);
  made.attentive = false;
  made.apply("message.new", said("m3", 7));
  assert.equal(made.unread, 2);
  assert.equal(made.divider, "m3");
  assert.equal(made.toMark, undefined);
  made.attentive = true;
  assert.equal(made.toMark.id, "m3");
  made.apply("channel.read", { channel_id: "general", read_at: at(7) });
  assert.equal(made.toMark, undefined);
  assert.equal(made.unread, 1);
  made.apply("channel.read", { channel_id: "lunch", read_at: at(6) });
  made.apply("message.new", said("l1", 3, { channel_id: "lunch" })); // read in another tab, before it came here
  assert.equal(made.unread, 0);
});

test("opening a channel shows where the new begins", () => {
  const made = store();
  for (const [id, second] of [["l2", 4], ["l1", 3]]) made.apply("message.new", said(id, second, { channel_id: "lunch" }));
  made.show("lunch");
  assert.equal(made.divider, "l1");
  made.show("general");
  assert.equal(made.divider, "");
});

test("who types", () => {
  const made = store();
  made.hello({ state: { presence: [], typing: [{ channel_id: "general", user_id: "carol" }] } });
  made.apply("typing.start", { channel_id: "general", user_id: "bob" });
  made.apply("typing.start", { channel_id: "general", user_id: "alice" });
  assert.deepEqual(made.typists("general"), ["carol", "bob"]);
  made.apply("typing.stop", { channel_id: "general", user_id: "carol" });
  made.apply("message.new", said("m2", 2));
  assert.deepEqual(made.typists("general"), []);
  made.apply("typing.start", { channel_id: "general", user_id: "bob" });
  made.lost();
  assert.deepEqual(made.typists("general"), []);
});

test("who is there", () => {
  const made = store();
  made.hello({ state: { presence: [{ user_id: "bob", status: "away" }, { user_id: "alice", status: "online" }] } });
  made.apply("presence.updated", { user_id: "carol", status: "online" });
  made.apply("presence.updated", { user_id: "bob", status: "offline" });
  assert.deepEqual([...made.presence], [["alice", "online"], ["carol", "online"]]);
  made.hello({ state: {} });
  assert.equal(made.presence.size, 0);
});

test("a channel that is new has to be loaded; one that is lost is gone", () => {
  const made = store();
  made.apply("channel.created", { id: "plans", name: "plans", type: "public", created_by: "bob" });
  made.apply("member.joined", { channel_id: "secret", user_id: "alice" });
  made.apply("member.joined", { channel_id: "board", user_id: "alice" });
  assert.deepEqual([...made.unknown], ["plans", "secret"]);
  made.putChannel(channel("plans"));
  assert.deepEqual([...made.unknown], ["secret"]);
  made.apply("member.left", { channel_id: "general", user_id: "alice" });
  assert.equal(made.channels.has("general"), false);
  assert.equal(made.open, "");
  assert.equal(made.messages.size, 0);
  made.apply("channel.deleted", { id: "plans" });
  assert.equal(made.channels.has("plans"), false);
});

test("an event of tomorrow changes nothing", () => {
  const made = store();
  made.apply("poll.updated", { poll_id: "p" });
  assert.deepEqual(contents(made), ["m1"]);
});
