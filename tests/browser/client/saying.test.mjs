/** What is said: requests, typing, and the heartbeat. */
import assert from "node:assert/strict";
import test from "node:test";

import { opened, outcome, settled, stage } from "./stage.mjs";

const RECOVERED = { cursor: "c0", resume: { recovered: true, replayed: 0 } };
const refs = (events) => events.map(({ ref }) => ref);

async function back(it) {
  await it.clock.pass(20_000);
  await it.socket.hello(RECOVERED);
}

test("a request has a ref of its own, and ends by its ack", async (t) => {
  const { chat, socket } = await opened(t);
  const [first, second] = [chat.request("poll.vote", { poll_id: "p", choice: 1 }), chat.request("poll.close")];
  const [one, two] = socket.sent;
  assert.deepEqual(one, { type: "poll.vote", data: { poll_id: "p", choice: 1 }, ref: one.ref });
  assert.deepEqual(two, { type: "poll.close", ref: two.ref });
  assert.equal(typeof one.ref, "string");
  assert.notEqual(one.ref, two.ref);
  await socket.ack(two.ref);
  assert.deepEqual([await outcome(first), await outcome(second)], ["pending", "done"]);
  await socket.ack(one.ref);
  assert.equal(await first, undefined);
});

test("what is over the server's limit is not sent: it would hang up", async (t) => {
  const it = await opened(t, {}, { cursor: "c0", limits: { max_event_bytes: 100 } });
  const fits = { text: "x".repeat(50) };
  await assert.rejects(it.chat.request("say", { text: "\u00e9".repeat(50) }), {
    code: "INVALID_EVENT",
    detail: "$: expected at most 100 bytes",
  });
  it.chat.request("say", fits).catch(() => {});
  assert.deepEqual(it.socket.sent.map(({ data }) => data), [fits]);
});

test("a request ends by the error with its ref, which is no event then", async (t) => {
  const it = await opened(t);
  const request = it.chat.request("poll.vote");
  const refused = assert.rejects(request, (error) => {
    assert.deepEqual({ ...error }, {
      name: "JackfieldError",
      code: "POLL_CLOSED",
      detail: "$.data",
      retryAfter: 70,
      closeCode: undefined,
    });
    return error.message === "it is POLL_CLOSED";
  });
  await it.socket.error("POLL_CLOSED", { ref: it.socket.sent[0].ref, detail: "$.data", retry_after_ms: 70 });
  await refused;
  assert.deepEqual([it.events, it.reported], [[], []]);
});

test("a ping that somebody asks for is answered by its pong", async (t) => {
  const it = await opened(t);
  const request = it.chat.request("ping");
  await it.socket.say({ type: "pong", ref: it.socket.sent[0].ref, cursor: "c1" });
  assert.equal(await outcome(request), "done");
  assert.equal(it.chat.cursor, "c1");
});

test("what has no form in JSON is refused to whoever asks, and takes no place", async (t) => {
  const { chat } = await opened(t, { buffer: 1 });
  const circle = {};
  circle.itself = circle;
  await assert.rejects(chat.request("x", circle), TypeError);
  assert.equal(await outcome(chat.request("x")), "pending");
});

test("while it is not open requests wait", async (t) => {
  const it = await stage(t);
  const request = it.chat.request("poll.vote");
  assert.deepEqual(it.socket.sent, []);
  await it.socket.hello({ cursor: "c0" });
  assert.equal(it.socket.of("poll.vote").length, 1);
  await it.socket.ack(it.socket.sent[0].ref);
  assert.equal(await outcome(request), "done");
});

test("one too many fails at once; a window of them is on its way", async (t) => {
  const it = await opened(t);
  const requests = Array.from({ length: 64 }, () => it.chat.request("x"));
  await assert.rejects(it.chat.request("x"), { code: "BUFFER_FULL", message: /64/ });
  assert.equal(it.socket.sent.length, 16);
  await it.socket.ack(it.socket.sent[4].ref);
  assert.equal(it.socket.sent.length, 17);
  assert.equal(await outcome(requests[4]), "done");
  const refused = assert.rejects(requests[5], { code: "POLL_CLOSED" });
  await it.socket.error("POLL_CLOSED", { ref: it.socket.sent[5].ref });
  await refused;
  assert.equal(it.socket.sent.length, 18);
});

test("what was sent and not answered is sent again after coming back, in order, before what is newer", async (t) => {
  const it = await opened(t);
  const requests = ["a", "b", "c"].map((type) => it.chat.request(type));
  const before = it.socket.sent;
  await it.socket.ack(before[1].ref);
  await it.socket.end(1006);
  requests.push(it.chat.request("d"));
  await back(it);
  assert.deepEqual(it.socket.sent.map(({ type }) => type), ["a", "c", "d"]);
  assert.deepEqual(refs(it.socket.sent).slice(0, 2), [before[0].ref, before[2].ref]);
  for (const ref of refs(it.socket.sent)) await it.socket.ack(ref);
  assert.deepEqual(await Promise.all(requests.map(outcome)), ["done", "done", "done", "done"]);
});

test("a rate limit is waited for, and nobody hears of it", async (t) => {
  const it = await opened(t);
  const requests = ["a", "b", "c"].map((type) => it.chat.request(type));
  const [a, b, c] = refs(it.socket.sent);
  await it.socket.ack(a);
  await it.socket.error("RATE_LIMITED", { ref: b, retry_after_ms: 900 });
  await it.socket.error("RATE_LIMITED", { ref: c, retry_after_ms: 1_000 });
  requests.push(it.chat.request("d"));
  await it.clock.pass(999);
  assert.equal(it.socket.sent.length, 3);
  await it.clock.pass(1);
  assert.deepEqual(refs(it.socket.sent).slice(3), [b]);
  await it.socket.ack(b);
  assert.deepEqual(refs(it.socket.sent).slice(3), [b, c]);
  await it.socket.ack(c);
  await it.socket.ack(it.socket.sent.at(-1).ref);
  assert.deepEqual(await Promise.all(requests.map(outcome)), ["done", "done", "done", "done"]);
  assert.deepEqual([it.events, it.reported], [[], []]);
});

test("a rate limit outlives the connection", async (t) => {
  const it = await opened(t, { backoffBase: 0 });
  it.chat.request("a");
  await it.socket.error("RATE_LIMITED", { ref: it.socket.sent[0].ref, retry_after_ms: 5_000 });
  await it.socket.end(1006);
  await it.clock.pass(0);
  await it.socket.hello(RECOVERED);
  await it.clock.pass(4_999);
  assert.deepEqual(it.socket.sent, []);
  await it.clock.pass(1);
  assert.deepEqual(it.socket.sent.length, 1);
});

test("a rate limit that is over while there is no connection holds nothing back", async (t) => {
  const it = await opened(t);
  it.chat.request("a");
  await it.socket.error("RATE_LIMITED", { ref: it.socket.sent[0].ref });
  await it.socket.end(1013, "retry_after_ms=2000");
  await back(it);
  assert.equal(it.socket.of("a").length, 1);
});

test("a rate limit of what has no ref is an error as any", async (t) => {
  const it = await opened(t);
  it.chat.request("a");
  await it.socket.error("RATE_LIMITED", { retry_after_ms: 900 });
  assert.deepEqual(it.events, ["error"]);
});

// --- typing

const said = (socket) => socket.of("typing").map(({ channel_id, is_typing }) => `${channel_id} ${is_typing}`);

test("typing is said at the first keystroke, and again as long as it goes on, and its end once", async (t) => {
  const { chat, clock, socket } = await opened(t);
  for (let n = 0; n < 8; n += 1) {
    chat.typing("general");
    await clock.pass(500);
  }
  assert.deepEqual(socket.sent, Array(2).fill({ type: "typing", channel_id: "general", is_typing: true }));
  await clock.pass(4_499);
  assert.equal(socket.sent.length, 2);
  await clock.pass(1);
  assert.deepEqual(said(socket), ["general true", "general true", "general false"]);
  await clock.pass(20_000);
  assert.equal(said(socket).length, 3);
  chat.typing("general");
  assert.equal(said(socket).length, 4);
});

test("typing ends at once when somebody says so, if it had begun", async (t) => {
  const { chat, clock, socket } = await opened(t);
  chat.typing("general", false);
  assert.deepEqual(socket.sent, []);
  chat.typing("general");
  chat.typing("random");
  chat.typing("general", false);
  chat.typing("general", false);
  assert.deepEqual(said(socket), ["general true", "random true", "general false"]);
  await clock.pass(6_000);
  assert.deepEqual(said(socket).slice(3), ["random false"]);
});

test("typing is never kept for later, and a lost connection forgets it", async (t) => {
  const it = await opened(t);
  it.chat.typing("general");
  await it.socket.end(1006);
  it.chat.typing("general");
  it.chat.typing("general", false);
  await it.clock.pass(500);
  await it.socket.hello(RECOVERED);
  it.chat.typing("general", false);
  assert.deepEqual(said(it.socket), []);
  it.chat.typing("general");
  it.chat.typing("random");
  assert.deepEqual(said(it.socket), ["general true", "random true"]);
});

test("one's own message ends it without a word, and nobody else's does", async (t) => {
  const { chat, clock, socket } = await opened(t);
  const message = (user_id, channel_id, cursor) => socket.event("message.new", { id: 1, user_id, channel_id }, cursor);
  chat.typing("general");
  await message("bob", "general", "c1");
  await message("alice", "random", "c2");
  chat.typing("general");
  assert.equal(said(socket).length, 1);
  await message("alice", "general", "c3");
  await clock.pass(6_000);
  assert.deepEqual(said(socket), ["general true"]);
  chat.typing("general");
  await message("alice", "general", "c4");
  chat.typing("general");
  assert.deepEqual(said(socket), ["general true", "general true", "general true"]);
  await clock.pass(5_000);
  assert.deepEqual(said(socket).slice(3), ["general false"]);
});

// --- the heartbeat

test("it pings as often as hello says, also while events come", async (t) => {
  const it = await stage(t);
  await it.socket.hello({ cursor: "c0" }, 7_000);
  for (let second = 1; second <= 21; second += 1) {
    await it.clock.pass(1_000);
    await it.socket.event("typing.start");
  }
  assert.deepEqual(it.socket.sent, Array(3).fill({ type: "ping" }));
});

test("a line that is silent after a ping is left, and its end not waited for", async (t) => {
  const it = await opened(t);
  const [zombie] = it.sockets;
  await it.clock.pass(39_999);
  assert.equal(it.chat.status.state, "open");
  await it.clock.pass(1);
  assert.deepEqual([it.chat.status.state, it.chat.status.code, zombie.closed], ["waiting", 1006, 1000]);
  await it.clock.pass(500);
  assert.equal(it.socket.url.searchParams.get("resume"), "c0");
  await it.socket.hello(RECOVERED);
  await zombie.event("message.new", { id: 1 }, "c1");
  await zombie.end(4503);
  assert.deepEqual([it.events, it.chat.status.state], [[], "open"]);
});

test("any frame is a sign of life", async (t) => {
  for (const frame of [{ type: "pong" }, { type: "presence.updated" }, "not JSON"]) {
    const it = await opened(t);
    await it.clock.pass(39_999);
    await it.socket.say(frame);
    await it.clock.pass(20_000);
    assert.equal(it.chat.status.state, "open");
    await it.clock.pass(10_001);
    assert.equal(it.chat.status.state, "waiting");
  }
});

test("pings that come faster than patience ends do not put its end off", async (t) => {
  const it = await stage(t);
  await it.socket.hello({ cursor: "c0" }, 4_000);
  await it.clock.pass(13_999);
  assert.equal(it.chat.status.state, "open");
  await it.clock.pass(1);
  assert.equal(it.chat.status.state, "waiting");
});

test("a new connection has a heart of its own", async (t) => {
  const it = await opened(t);
  await it.clock.pass(29_000);
  it.chat.reconnect();
  await settled();
  await it.socket.hello(RECOVERED);
  await it.clock.pass(29_999);
  assert.deepEqual(it.socket.sent, []);
  await it.clock.pass(1);
  assert.deepEqual(it.socket.sent, [{ type: "ping" }]);
});
