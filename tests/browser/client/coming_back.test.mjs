/** Connecting, losing the line, and coming back. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import test from "node:test";

import { opened, outcome, settled, stage } from "./stage.mjs";

const states = ({ states }) => states.map(({ state }) => state);

test("an attempt brings the token out of the address, and asks to resume", async (t) => {
  const { chat, socket, states } = await stage(t);
  assert.equal(socket.url.href, "wss://chat.example/ws/acme?resume=");
  assert.deepEqual(socket.protocols, ["jackfield.v1", "bearer.secret"]);
  assert.deepEqual(states, [{ state: "connecting" }]);
  assert.equal(chat.hello, null);
  assert.equal(chat.cursor, undefined);
});

test("hello is the sign of being open", async (t) => {
  const it = await stage(t);
  await it.socket.hello({ state: { presence: [] }, cursor: "c0" });
  assert.equal(it.chat.cursor, "c0");
  assert.deepEqual(it.chat.status, { state: "open" });
  assert.deepEqual(it.chat.hello.state, { presence: [] });
  assert.deepEqual(states(it), ["connecting", "open"]);
  assert.deepEqual(it.events, []);
});

test("an attempt without hello is given up after its patience", async (t) => {
  const { chat, clock, socket, sockets } = await stage(t);
  await clock.pass(9_999);
  assert.equal(chat.status.state, "connecting");
  await clock.pass(1);
  assert.equal(chat.status.state, "waiting");
  assert.equal(chat.status.code, 1006);
  assert.equal(socket.closed, 1000);
  await clock.pass(500);
  assert.equal(sockets.length, 2);
  await socket.hello({ user_id: "late" });
  assert.equal(chat.hello, null);
});

test("while it waits it says why, and when it comes back", async (t) => {
  const { chat, clock, socket } = await opened(t);
  await socket.end(4002, "slow");
  assert.deepEqual(chat.status, { state: "waiting", code: 4002, reason: "slow", retryAt: clock.now() + 500 });
  assert.throws(() => (chat.status.state = "open"), TypeError);
});

test("an end without a code is a cut", async (t) => {
  const it = await opened(t);
  await it.socket.end(1005);
  assert.equal(it.chat.status.code, 1006);
  await it.clock.pass(500);
  await it.socket.end(0);
  assert.equal(it.chat.status.code, 1006);
});

test("each failure in a row doubles the pause, and a link has to stand a while to end the row", async (t) => {
  const it = await opened(t);
  const pauses = [];
  const lose = async () => {
    await it.socket.end(1006);
    pauses.push(it.chat.status.retryAt - it.clock.now());
    await it.clock.pass(pauses.at(-1) - 1);
    assert.equal(it.chat.status.state, "waiting");
    await it.clock.pass(1);
    assert.equal(it.chat.status.state, "connecting");
  };
  await lose();
  await lose();
  await it.socket.hello();
  await it.clock.pass(29_999);
  await lose();
  await it.socket.hello();
  await it.clock.pass(30_000);
  await lose();
  await lose();
  assert.deepEqual(pauses, [500, 1_000, 2_000, 500, 1_000]);
});

test("a drain spreads those who come back over the time that it gives", async (t) => {
  const it = await opened(t);
  it.chance = 0.25;
  await it.socket.end(4001, "retry_after_ms=8000");
  assert.equal(it.chat.status.retryAt - it.clock.now(), 2_000);
});

for (const code of [1000, 1003, 1009, 4500, 4502, 4503, 4504, 4999]) {
  test(`after ${code} it does not come back`, async (t) => {
    const it = await opened(t);
    await it.socket.end(code, "because");
    assert.deepEqual(it.chat.status, { state: "closed", code, reason: "because" });
    await it.clock.pass(1e7);
    assert.equal(it.sockets.length, 1);
    assert.equal(it.clock.timers.size, 0);
  });
}

test("it goes on where it was, also from what pong said", async (t) => {
  const it = await opened(t);
  const again = async () => {
    await it.socket.end(1006);
    await it.clock.pass(500 * 2 ** it.sockets.length);
    return it.socket.url.searchParams.get("resume");
  };
  assert.equal(await again(), "c0");
  await it.socket.hello({ cursor: "c0", resume: { recovered: true, replayed: 1 } });
  await it.socket.event("message.new", { id: 1 }, "c1");
  assert.equal(await again(), "c1");
  await it.socket.hello({ cursor: "c1", resume: { recovered: true, replayed: 0 } });
  await it.socket.say({ type: "pong", cursor: "c2" });
  assert.equal(await again(), "c2");
});

test("reconnect() comes back now, out of a pause and out of an open connection", async (t) => {
  const it = await opened(t);
  await it.socket.end(1013, "retry_after_ms=60000");
  it.chat.reconnect();
  await settled();
  assert.equal(it.sockets.length, 2);
  it.chat.reconnect(); // it is on its way already
  await it.socket.hello({ cursor: "c0", resume: { recovered: true } });
  const [, second] = it.sockets;
  it.chat.reconnect();
  await settled();
  assert.equal(second.closed, 1000);
  assert.equal(it.sockets.length, 3);
  assert.equal(it.socket.url.searchParams.get("resume"), "c0");
  await it.clock.pass(60_000 - 1);
  assert.ok(states(it).filter((state) => state === "connecting").length >= 3);
});

test("reconnect() begins anew after the server had closed, with the page's signs, but not after close()", async (t) => {
  const it = await opened(t);
  await it.socket.end(4504);
  it.chat.reconnect();
  await settled();
  await it.socket.hello({ cursor: "c0", resume: { recovered: true } });
  await it.page.happens("online");
  assert.equal(it.socket.of("ping").length, 1);
  it.chat.close();
  it.chat.reconnect();
  await it.clock.pass(1e6);
  assert.equal(it.sockets.length, 2);
});

test("close() is for good, and can be said twice", async (t) => {
  const it = await opened(t);
  it.chat.close();
  it.chat.close();
  assert.equal(it.socket.closed, 1000);
  assert.deepEqual(it.states.at(-1), { state: "closed", code: 1000, reason: "" });
  assert.deepEqual(states(it), ["connecting", "open", "closed"]);
  await it.socket.event("message.new", { id: 1 }, "c1");
  await it.socket.end(1006);
  await it.page.happens("online");
  await it.page.show("hidden");
  await it.clock.pass(1e6);
  assert.deepEqual([it.events, it.sockets.length, it.clock.timers.size], [[], 1, 0]);
});

test("close() in every other state leaves nothing behind", async (t) => {
  let give;
  const closings = [
    ["while a token is asked for", async () => settled()],
    ["while it dials", async () => (give("secret"), settled())],
    ["while it waits", async (it) => (give("secret"), await settled(), it.socket.end(1006))],
  ];
  for (const [name, reach] of closings) {
    const it = await stage(t, { token: () => new Promise((resolve) => (give = resolve)) });
    await reach(it);
    it.chat.close();
    give("secret");
    await it.clock.pass(1e6);
    assert.deepEqual(it.clock.timers.size, 0, name);
    assert.ok(it.sockets.every(({ closed }) => closed === 1000), name);
    assert.ok(it.sockets.length <= 1, name);
  }
});

test("close() in the line behind connect() makes no attempt", async (t) => {
  let asked = 0;
  const { connect } = await import("../../../src/jackfield/browser/jackfield.js");
  const chat = connect("ws://127.0.0.1:1/", { WebSocket: class {}, token: () => (asked += 1) });
  chat.close();
  await settled();
  assert.equal(asked, 0);
});

test("a status listener may close it, or come back, at every turn", async (t) => {
  for (const turn of ["connecting", "open", "waiting"]) {
    const it = await stage(t, { sync: () => assert.notEqual(turn, "open") });
    if (turn === "connecting") await it.socket.end(1006);
    it.chat.on("status", ({ state }) => state === turn && it.chat.close());
    if (turn === "connecting") await it.clock.pass(500);
    await it.socket.hello({ cursor: "c0" });
    await it.socket.end(1006);
    await it.clock.pass(1e6);
    assert.equal(it.chat.status.state, "closed", turn);
    assert.equal(it.clock.timers.size, 0, turn);
    assert.equal(it.sockets.length, 1, turn);
  }
});

test("who reconnects while it opens still loads his state", async (t) => {
  const reasons = [];
  const it = await stage(t, { sync: (hello, { reason }) => void reasons.push(reason) });
  const off = it.chat.on("status", ({ state }) => state === "open" && (off(), it.chat.reconnect()));
  await it.socket.hello({ cursor: "c0" });
  await it.socket.hello({ cursor: "c0", resume: { recovered: true, replayed: 0 } });
  assert.deepEqual([reasons, it.sockets.length, it.chat.status.state], [[null], 2, "open"]);
});

test("a socket that cannot be made is a failed attempt", async (t) => {
  let made = 0;
  const it = await stage(t, {
    WebSocket: class {
      constructor() {
        made += 1;
        throw new DOMException("insecure", "SecurityError");
      }
    },
  });
  assert.equal(it.chat.status.state, "waiting");
  assert.equal(it.reported[0][0].name, "SecurityError");
  await it.clock.pass(500);
  assert.equal(made, 2);
});

test("what can never work is said at once", async (t) => {
  const { connect } = await import("../../../src/jackfield/browser/jackfield.js");
  const surroundings = { WebSocket: class {}, page: {} };
  assert.throws(() => connect("/ws/acme", surroundings), TypeError);
  assert.throws(() => connect("mailto:a@b", surroundings), /give a path/);
  assert.throws(() => connect("ws://a/", { WebSocket: null }), /options.WebSocket/);
});

test("an option that is undefined is as if it were left out", async (t) => {
  const it = await stage(t, { patience: undefined, cursor: undefined });
  await it.clock.pass(9_999);
  assert.equal(it.chat.status.state, "connecting");
});

test("the numbers are options", async (t) => {
  const it = await stage(t, { patience: 100, backoffBase: 10, backoffCap: 15, stable: 50 });
  await it.clock.pass(100);
  assert.equal(it.chat.status.retryAt - it.clock.now(), 10);
  await it.clock.pass(10);
  await it.socket.end(1006);
  assert.equal(it.chat.status.retryAt - it.clock.now(), 15);
  await it.clock.pass(15);
  await it.socket.hello();
  await it.clock.pass(50);
  await it.socket.end(1006);
  assert.equal(it.chat.status.retryAt - it.clock.now(), 10);
});

test("importing it touches nothing, and a closed client lets Node end", () => {
  const module = new URL("../../../src/jackfield/browser/jackfield.js", import.meta.url).href;
  const script = `
    const before = Object.keys(globalThis).join();
    const { connect } = await import(${JSON.stringify(module)});
    if (Object.keys(globalThis).join() !== before) throw new Error("a global");
    const sockets = [];
    class Socket { constructor() { sockets.push(this); } send() {} close() {} }
    const chat = connect("ws://127.0.0.1:1/ws/acme", { WebSocket: Socket });
    await new Promise((resolve) => setTimeout(resolve, 5));
    sockets[0].onmessage({ data: '{"type":"hello","data":{"heartbeat_interval_ms":30000}}' });
    if (chat.status.state !== "open") throw new Error(chat.status.state);
    chat.typing("general");
    chat.close();`;
  const command = ["--input-type=module", "-e", script];
  const ended = spawnSync(process.execPath, command, { timeout: 5_000, encoding: "utf8" });
  assert.equal(ended.stderr, "");
  assert.equal(ended.status, 0);
});

test("what is outstanding when it ends fails with the close", async (t) => {
  const it = await opened(t);
  const request = it.chat.request("poll.vote");
  const refused = assert.rejects(request, { name: "JackfieldError", code: "CLOSED", closeCode: 4503 });
  await it.socket.end(4503);
  await refused;
  assert.equal(await outcome(it.chat.request("poll.vote")), "CLOSED");
});
