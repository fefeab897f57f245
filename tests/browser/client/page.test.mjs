/** The page around it: hidden and seen again, the network gone and back. */
import assert from "node:assert/strict";
import test from "node:test";

import { opened, settled, stage } from "./stage.mjs";

const RECOVERED = { cursor: "c0", resume: { recovered: true, replayed: 0 } };
const SIGNS = [
  ["seen again", (page) => page.show("visible")],
  ["back from the cache", (page) => page.happens("pageshow", { persisted: true })],
  ["the network is back", (page) => page.network(true)],
  ["the network is gone", (page) => page.network(false)],
];

for (const [name, sign] of SIGNS) {
  test(`open, and ${name}: it looks at once whether the line lives`, async (t) => {
    const it = await opened(t);
    await sign(it.page);
    assert.deepEqual(it.socket.sent, [{ type: "ping" }]);
    await it.clock.pass(4_999);
    assert.equal(it.chat.status.state, "open");
    await it.clock.pass(1);
    assert.notEqual(it.chat.status.state, "open");
    assert.equal(it.chat.status.code, 1006);
  });

  test(`open and alive, and ${name}: nothing comes of it`, async (t) => {
    const it = await opened(t);
    await sign(it.page);
    await it.socket.say({ type: "pong" });
    await it.clock.pass(29_000);
    assert.equal(it.chat.status.state, "open");
  });
}

for (const [name, sign] of SIGNS.slice(0, 3)) {
  test(`in a pause, and ${name}: it comes back now, and once`, async (t) => {
    const it = await opened(t);
    await it.socket.end(1013, "retry_after_ms=60000");
    await sign(it.page);
    await sign(it.page);
    assert.deepEqual([it.sockets.length, it.chat.status.state], [2, "connecting"]);
    await it.socket.hello(RECOVERED);
    await it.clock.pass(25_000);
    assert.equal(it.sockets.length, 2);
  });
}

test("patience that is shorter than the look is kept, and a look shortens a wait that has begun", async (t) => {
  const short = await opened(t, { patience: 2_000 });
  await short.page.show("visible");
  await short.clock.pass(2_000);
  assert.equal(short.chat.status.state, "waiting");

  for (const [at, left] of [[31_000, 5_000], [38_000, 2_000]]) {
    const it = await opened(t);
    await it.clock.pass(at);
    await it.page.show("visible");
    await it.clock.pass(left - 1);
    assert.equal(it.chat.status.state, "open");
    await it.clock.pass(1);
    assert.equal(it.chat.status.state, "waiting");
  }
});

test("a page that is merely shown, or hidden, is no sign", async (t) => {
  const it = await opened(t);
  await it.page.happens("pageshow", { persisted: false });
  await it.page.show("hidden");
  assert.deepEqual(it.socket.sent, []);
});

test("without a network the pause has another name, and it goes on trying", async (t) => {
  const it = await opened(t);
  it.page.navigator.onLine = false;
  await it.socket.end(1006);
  assert.equal(it.chat.status.state, "offline");
  await it.clock.pass(500);
  assert.equal(it.sockets.length, 2);
});

test("the network goes during a pause: it says so, and the pause stays as it is", async (t) => {
  const it = await opened(t);
  await it.socket.end(4002, "slow");
  const { retryAt } = it.chat.status;
  await it.page.network(false);
  assert.deepEqual(it.chat.status, { state: "offline", code: 4002, reason: "slow", retryAt });
  await it.page.network(false);
  assert.deepEqual(it.states.map(({ state }) => state), ["connecting", "open", "waiting", "offline"]);
  await it.page.network(true);
  assert.equal(it.chat.status.state, "connecting");
});

test("signs during an attempt change nothing", async (t) => {
  const it = await stage(t);
  for (const [, sign] of SIGNS) await sign(it.page);
  assert.deepEqual([it.sockets.length, it.socket.sent, it.states.length], [1, [], 1]);
});

test("it works where there is no page at all", async (t) => {
  const it = await stage(t, { page: {} }, "ws://a/ws/acme");
  await it.socket.hello();
  await it.socket.end(1006);
  assert.equal(it.chat.status.state, "waiting");
});

// --- presence

const said = (it) => it.socket.of("presence").map(({ data }) => data.status);

test("away after the page was hidden for a minute, and online when it is seen again", async (t) => {
  const it = await opened(t, { presence: true });
  await it.page.show("hidden");
  await it.clock.pass(30_000);
  await it.socket.say({ type: "pong" });
  await it.clock.pass(29_999);
  assert.deepEqual(said(it), []);
  await it.clock.pass(1);
  assert.deepEqual(said(it), ["away"]);
  await it.page.show("visible");
  await it.page.show("visible");
  assert.deepEqual(said(it), ["away", "online"]);
});

test("a page that is seen again in time says nothing", async (t) => {
  const it = await opened(t, { presence: true, patience: 1e6 });
  await it.page.show("hidden");
  await it.clock.pass(59_999);
  await it.page.show("visible");
  await it.socket.say({ type: "pong" });
  await it.clock.pass(60_000);
  assert.deepEqual([said(it), it.chat.status.state], [[], "open"]);
});

test("a new connection of a hidden page is told, too; one of a page that was seen meanwhile is not", async (t) => {
  const it = await stage(t, { presence: true, patience: 1e6 });
  await it.page.show("hidden");
  await it.clock.pass(60_000);
  await it.socket.hello({ cursor: "c0" });
  assert.deepEqual(said(it), ["away"]);
  await it.socket.ack(it.socket.of("presence")[0].ref);
  await it.socket.end(1006);
  await it.page.show("visible");
  await it.socket.hello(RECOVERED);
  assert.deepEqual([it.sockets.length, said(it)], [2, []]);
});

test("a page that was hidden from the start counts from there", async (t) => {
  const page = Object.assign(new EventTarget(), {
    location: { href: "http://a/" },
    document: Object.assign(new EventTarget(), { visibilityState: "hidden" }),
  });
  const it = await stage(t, { presence: true, patience: 1e6, page });
  await it.socket.hello({ cursor: "c0" });
  await it.clock.pass(60_000);
  assert.deepEqual(said(it), ["away"]);
});

test("a server that does not know it is not told again, and nobody hears of that", async (t) => {
  const it = await opened(t, { presence: true, patience: 1e6 });
  await it.page.show("hidden");
  await it.clock.pass(60_000);
  await it.socket.error("UNKNOWN_EVENT", { ref: it.socket.of("presence")[0].ref });
  await it.page.show("visible");
  assert.deepEqual([said(it), it.events, it.reported], [["away"], [], []]);
});

test("another fault is no reason to give it up", async (t) => {
  const it = await opened(t, { presence: true, patience: 1e6 });
  await it.page.show("hidden");
  await it.clock.pass(60_000);
  await it.socket.error("INTERNAL_ERROR", { ref: it.socket.of("presence")[0].ref });
  await it.page.show("visible");
  assert.deepEqual(said(it), ["away", "online"]);
});

test("nothing is said unless it was asked for", async (t) => {
  const it = await opened(t, { patience: 1e6 });
  await it.page.show("hidden");
  await it.clock.pass(60_000);
  await it.page.show("visible");
  await settled();
  assert.deepEqual(said(it), []);
});
