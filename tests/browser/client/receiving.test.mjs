/** What comes: order, cursors, duplicates, errors, loading the state. */
import assert from "node:assert/strict";
import test from "node:test";

import { opened, settled, stage } from "./stage.mjs";

const RECOVERED = { cursor: "c0", resume: { recovered: true, replayed: 0 } };
const LOST = { cursor: "n0", resume: { recovered: false, reason: "expired" } };

/** `sync` that is answered by hand: `syncs.at(-1).resolve()`. */
function byHand() {
  const syncs = [];
  const sync = (hello, { reason }) => new Promise((resolve, reject) => syncs.push({ hello, reason, resolve, reject }));
  return { syncs, sync };
}

async function cut(it) {
  await it.socket.end(1006);
  await it.clock.pass(20_000);
}

test("a listener gets data and envelope until he ends it; * gets all, also what nobody knows", async (t) => {
  const { chat, socket } = await opened(t);
  const heard = [];
  const off = chat.on("message.new", (...what) => heard.push(what));
  const all = [];
  chat.on("*", (data, { type }) => all.push(type));
  await socket.event("message.new", { id: 1 }, "c1");
  await socket.event("poll.opened", { id: 2 }, "c2");
  assert.equal(off(), undefined);
  off();
  await socket.event("message.new", { id: 3 }, "c3");
  const envelope = { type: "message.new", data: { id: 1 }, workspace_id: "acme", timestamp: "t", cursor: "c1" };
  assert.deepEqual(heard, [[{ id: 1 }, envelope]]);
  assert.deepEqual(all, ["message.new", "poll.opened", "message.new"]);
});

test("what belongs to the connection is no event", async (t) => {
  const it = await opened(t);
  const heard = [];
  for (const type of ["hello", "pong", "ack", "status"]) it.chat.on(type, () => heard.push(type));
  await it.socket.say({ type: "pong" });
  await it.socket.ack("nobody's");
  assert.deepEqual([it.events, heard], [[], []]);
  await it.socket.event("status", { of: "a plugin" });
  assert.deepEqual([it.events, heard], [["status"], []]);
});

test("a listener that throws keeps the event from nobody, and is reported", async (t) => {
  const it = await opened(t);
  const heard = [];
  const fault = new Error("a fault of the page");
  it.chat.on("message.new", () => {
    throw fault;
  });
  it.chat.on("message.new", ({ id }) => heard.push(id));
  await it.socket.event("message.new", { id: 1 }, "c1");
  await it.socket.event("message.new", { id: 2 }, "c2");
  assert.deepEqual(heard, [1, 2]);
  assert.deepEqual(it.reported, [[fault], [fault]]);
});

test("it is reported where the page has a place for it", async (t) => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => delete globalThis.reportError);
  const it = await opened(t);
  it.chat.on("status", () => {
    throw new Error("again");
  });
  await it.socket.end(1006);
  assert.deepEqual([reported, it.chat.status.state], [["again"], "waiting"]);
});

test("listeners may come and go while an event is handed out", async (t) => {
  const it = await opened(t);
  const heard = [];
  const off = it.chat.on("x", () => {
    off();
    it.chat.on("x", () => heard.push("late"));
    heard.push("first");
  });
  it.chat.on("x", () => heard.push("second"));
  await it.socket.event("x");
  assert.deepEqual(heard, ["first", "second"]);
});

test("a durable event that comes twice is handed out once", async (t) => {
  const it = await opened(t);
  for (const [id, cursor] of [[1, "c1"], [2, "c2"], [1, "c1"]]) await it.socket.event("message.new", { id }, cursor);
  await it.socket.end(1006);
  await it.clock.pass(500);
  await it.socket.hello({ cursor: "c1", resume: { recovered: true, replayed: 1 } });
  await it.socket.event("message.new", { id: 2 }, "c2");
  await it.socket.event("typing.start");
  await it.socket.event("typing.start");
  assert.deepEqual(it.events, [1, 2, "typing.start", "typing.start"]);
});

test("frames of a connection that was given up are not read", async (t) => {
  const it = await opened(t);
  const [old] = it.sockets;
  it.chat.reconnect();
  await old.event("message.new", { id: 1 }, "c1");
  await old.end(4503);
  assert.deepEqual([it.events, it.chat.status.state], [[], "connecting"]);
  await settled();
  assert.equal(it.socket.url.searchParams.get("resume"), "c0");
});

test("what is not of our server is a sign of life and nothing else", async (t) => {
  const it = await opened(t);
  for (const text of ["", "{", "null", "1", "[]", "{}", '{"type":1}', '"hello"']) await it.socket.say(text);
  await it.socket.say('{"type":"bare"}');
  assert.deepEqual([it.events, it.chat.status.state, it.reported.length], [["bare"], "open", 0]);
});

test("cursor is that of the newest event handed out, or of a pong or hello behind it", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  const cursors = [];
  it.chat.on("message.new", () => cursors.push(it.chat.cursor));
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  await it.socket.say({ type: "pong", cursor: "c2" });
  assert.equal(it.chat.cursor, undefined);
  syncs[0].resolve();
  await settled();
  assert.deepEqual([cursors, it.chat.cursor], [["c1"], "c2"]);
  await it.socket.say({ type: "pong", cursor: "c3" });
  assert.equal(it.chat.cursor, "c3");
  await it.socket.event("presence.updated");
  assert.equal(it.chat.cursor, "c3");
});

test("a cursor of a former page goes on from there, without loading", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync, cursor: "stored" });
  assert.equal(it.socket.url.searchParams.get("resume"), "stored");
  assert.equal(it.chat.cursor, "stored");
  await it.socket.hello({ cursor: "stored", resume: { recovered: true, replayed: 1 } });
  await it.socket.event("message.new", { id: 1 }, "c1");
  assert.deepEqual([syncs, it.events, it.chat.cursor], [[], [1], "c1"]);
});

test("a cursor that is no longer kept loads afresh, and stays until that is done", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync, cursor: "stored" });
  await it.socket.hello({ ...LOST, state: { some: 1 } });
  assert.deepEqual([syncs[0].reason, syncs[0].hello.state], ["expired", { some: 1 }]);
  assert.equal(it.chat.cursor, "stored");
  syncs[0].resolve();
  await settled();
  assert.equal(it.chat.cursor, "n0");
});

test("events wait until the state is loaded: at first, and when what was missed is lost", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  assert.deepEqual([it.events, syncs.length, syncs[0].reason], [[], 1, null]);
  syncs[0].resolve();
  await settled();
  assert.deepEqual(it.events, [1]);
  await cut(it);
  await it.socket.hello(RECOVERED);
  await it.socket.event("message.new", { id: 2 }, "c2");
  assert.deepEqual([it.events, syncs.length], [[1, 2], 1]);
  await cut(it);
  await it.socket.hello(LOST);
  await it.socket.event("message.new", { id: 3 }, "n1");
  assert.deepEqual([it.events, syncs.length, syncs[1].reason], [[1, 2], 2, "expired"]);
  syncs[1].resolve();
  await settled();
  assert.deepEqual(it.events, [1, 2, 3]);
});

test("open is said before the state is asked for", async (t) => {
  const it = await stage(t, { sync: () => it.states.push({ state: "sync" }) });
  await it.socket.hello();
  assert.deepEqual(it.states.map(({ state }) => state), ["connecting", "open", "sync"]);
});

test("the line is cut while it loads, and nothing is lost: what had come stays, the rest follows", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  await cut(it);
  assert.equal(it.socket.url.searchParams.get("resume"), "c1");
  await it.socket.hello({ cursor: "c1", resume: { recovered: true, replayed: 1 } });
  await it.socket.event("message.new", { id: 2 }, "c2");
  assert.deepEqual([it.events, syncs.length], [[], 1]);
  syncs[0].resolve();
  await settled();
  assert.deepEqual([it.events, it.chat.cursor], [[1, 2], "c2"]);
});

test("loaded while the line is away: what had come is handed out", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  await it.socket.end(1006);
  syncs[0].resolve();
  await settled();
  assert.deepEqual(it.events, [1]);
});

test("the line is cut while it loads, and something is lost: it loads again, alone", async (t) => {
  for (const end of ["resolve", "reject"]) {
    const { syncs, sync } = byHand();
    const it = await stage(t, { sync });
    await it.socket.hello({ cursor: "c0" });
    await it.socket.event("message.new", { id: 1 }, "c1");
    await cut(it);
    await it.socket.hello(LOST);
    await it.socket.event("message.new", { id: 2 }, "n1");
    syncs[0][end](new Error("too late to matter"));
    await settled();
    assert.deepEqual([it.events, syncs.length, it.reported.length], [[], 2, 0]);
    syncs[1].resolve();
    await settled();
    assert.deepEqual([it.events, it.chat.status.state], [[2], "open"]);
  }
});

test("after a loss an event may have the cursor of an older one", async (t) => {
  const it = await opened(t);
  await it.socket.event("message.new", { id: 1 }, "c1");
  await cut(it);
  await it.socket.hello(LOST);
  await it.socket.event("message.new", { id: 2 }, "c1");
  assert.deepEqual(it.events, [1, 2]);
});

test("loading fails: it is reported, and asked for again on a new connection", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  syncs[0].reject(new Error("503"));
  await settled();
  assert.equal(it.reported[0][0].message, "503");
  assert.deepEqual([it.chat.status.state, it.chat.status.code, it.socket.closed], ["waiting", 1006, 1000]);
  await it.clock.pass(500);
  assert.equal(it.socket.url.searchParams.get("resume"), "");
  await it.socket.hello({ cursor: "c5" });
  await it.socket.event("message.new", { id: 6 }, "c6");
  syncs[1].resolve();
  await settled();
  assert.deepEqual([it.events, syncs.length, it.chat.cursor], [[6], 2, "c6"]);
});

test("loading throws at once, or fails while the line is away or dialled: the same", async (t) => {
  let faults = 1;
  const thrower = await stage(t, {
    sync: () => {
      if (faults-- > 0) throw new Error("at once");
    },
  });
  await thrower.socket.hello({ cursor: "c0" });
  assert.equal(thrower.chat.status.state, "waiting");
  await thrower.clock.pass(500);
  assert.equal(thrower.socket.url.searchParams.get("resume"), "");

  for (const wait of [0, 500]) {
    const { syncs, sync } = byHand();
    const it = await stage(t, { sync });
    await it.socket.hello({ cursor: "c0" });
    await it.socket.end(1006);
    await it.clock.pass(wait);
    syncs[0].reject(new Error("away"));
    await settled();
    assert.equal(it.chat.status.state, "waiting");
    await it.clock.pass(1_000);
    assert.equal(it.socket.url.searchParams.get("resume"), "", `after ${wait}`);
  }
});

test("closed while it loads: nothing is handed out any more", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  it.chat.close();
  syncs[0].resolve();
  await settled();
  assert.deepEqual([it.events, it.chat.cursor], [[], undefined]);
});

test("closed by the server while it loads, and back by hand: it loads again", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello({ cursor: "c0" });
  await it.socket.event("message.new", { id: 1 }, "c1");
  await it.socket.end(4504);
  it.chat.reconnect();
  await settled();
  assert.equal(it.socket.url.searchParams.get("resume"), "");
  await it.socket.hello({ cursor: "c1" });
  await it.socket.event("message.new", { id: 2 }, "c2");
  syncs[0].resolve();
  await settled();
  assert.deepEqual([it.events, syncs.length], [[], 2]);
  syncs[1].resolve();
  await settled();
  assert.deepEqual(it.events, [2]);
});

test("a listener that closes keeps what is behind from all", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  it.chat.on("message.new", () => it.chat.close());
  await it.socket.hello({ cursor: "c0" });
  for (const n of [1, 2]) await it.socket.event("message.new", { id: n }, `c${n}`);
  syncs[0].resolve();
  await settled();
  assert.deepEqual([it.events, it.chat.cursor], [[1], "c1"]);
});

test("a server that does not resume: it loads on every connection", async (t) => {
  const { syncs, sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.hello();
  await cut(it);
  assert.equal(it.socket.url.searchParams.get("resume"), "");
  await it.socket.hello();
  assert.deepEqual([syncs.length, it.chat.cursor], [2, undefined]);
});

test("an error goes to its listeners, before hello and while it loads too, or else to the console", async (t) => {
  const { sync } = byHand();
  const it = await stage(t, { sync });
  await it.socket.error("INVALID_TOKEN");
  assert.deepEqual(it.reported[0], ["jackfield:", "INVALID_TOKEN", "it is INVALID_TOKEN"]);
  const heard = [];
  it.chat.on("error", (data) => heard.push(data.code));
  await it.socket.hello();
  await it.socket.error("UNAUTHORIZED");
  await it.socket.error("POLL_CLOSED", { ref: "nobody's" });
  assert.deepEqual(heard, ["UNAUTHORIZED", "POLL_CLOSED"]);
  assert.deepEqual(it.events, ["error", "error", "error"]);
  assert.equal(it.reported.length, 1);
});
