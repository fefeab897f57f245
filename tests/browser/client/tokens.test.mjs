/** Who one is: asking for tokens, refused ones, and refreshing them before they end. */
import assert from "node:assert/strict";
import test from "node:test";

import { jwt, opened, settled, stage } from "./stage.mjs";

const RECOVERED = { cursor: "c0", resume: { recovered: true, replayed: 0 } };
const bearer = (socket) => socket.protocols[1];

/** A provider that gives these one after the other, the last for ever; an Error is thrown. */
function provider(...tokens) {
  const token = async () => {
    const next = tokens[Math.min(token.asked, tokens.length - 1)];
    token.asked += 1;
    if (next instanceof Error) throw next;
    return next;
  };
  return Object.assign(token, { asked: 0 });
}

/** Open by a token that has so many milliseconds left. No heart beats here: its time is another's. */
async function holding(t, left, ...later) {
  const start = Date.UTC(2024, 0, 1);
  const tokens = [left, ...later].map((one) => (typeof one === "number" ? jwt((start + one) / 1_000) : one));
  const token = provider(...tokens);
  const it = await stage(t, { token, patience: 1e12 });
  it.chance = 0;
  await it.socket.hello({ cursor: "c0" }, 1e12);
  return Object.assign(it, { token, tokens, offers: () => it.socket.of("auth.refresh") });
}

test("a function is asked at every connect", async (t) => {
  const token = provider("first", "second");
  const it = await opened(t, { token });
  assert.equal(bearer(it.socket), "bearer.first");
  await it.socket.end(1006);
  await it.clock.pass(500);
  assert.equal(bearer(it.socket), "bearer.second");
  await it.socket.hello(RECOVERED);
  await it.socket.end(4004);
  await it.clock.pass(1_000);
  assert.deepEqual([token.asked, it.sockets.length], [3, 3]);
});

test("a text serves every time, and none at all is no fault: a cookie may say it", async (t) => {
  const it = await opened(t, { token: "a text" });
  assert.equal(it.socket.url.searchParams.get("token"), "a text");
  for (const token of [undefined, null, ""]) {
    const without = await stage(t, { token });
    assert.deepEqual([without.socket.protocols, without.socket.url.search], [[], "?resume="]);
  }
});

test("whoever has no token has no rights: closed, and no socket was made", async (t) => {
  for (const none of [null, "", undefined]) {
    const it = await stage(t, { token: () => none });
    assert.deepEqual(it.chat.status, { state: "closed", code: 4502, reason: "no token" });
    await it.clock.pass(1e6);
    assert.equal(it.sockets.length, 0);
  }
});

test("a provider that fails is a failed attempt, said in the console", async (t) => {
  const token = provider(new Error("the login is down"), "later");
  const it = await stage(t, { token });
  assert.deepEqual([it.chat.status.state, it.chat.status.code], ["waiting", 1006]);
  assert.match(String(it.reported[0]), /the login is down/);
  await it.clock.pass(500);
  assert.equal(bearer(it.socket), "bearer.later");
  const thrower = await stage(t, {
    token: () => {
      throw new Error("at once");
    },
  });
  assert.equal(thrower.chat.status.state, "waiting");
});

test("a provider that hangs is given up with the attempt, and what it says later is not heard", async (t) => {
  const answers = [];
  const it = await stage(t, { token: () => new Promise((resolve) => answers.push(resolve)) });
  await it.clock.pass(10_500);
  assert.deepEqual([answers.length, it.sockets.length], [2, 0]);
  answers[0]("late");
  await settled();
  assert.equal(it.sockets.length, 0);
  answers[1]("in time");
  await settled();
  assert.equal(it.socket.url.searchParams.get("token"), "in time");
});

test("a refused token: it comes back with another, which is not asked for twice", async (t) => {
  const token = provider("bad", "good", "third");
  const it = await stage(t, { token });
  await it.socket.error("INVALID_TOKEN");
  await it.socket.end(4501, "invalid token");
  assert.deepEqual([it.chat.status.state, it.chat.status.code, token.asked], ["waiting", 4501, 2]);
  await it.clock.pass(500);
  assert.deepEqual([bearer(it.socket), token.asked], ["bearer.good", 2]);
  await it.socket.hello({ cursor: "c0" });
  await it.socket.end(1006);
  await it.clock.pass(1_000);
  assert.equal(bearer(it.socket), "bearer.third");
});

test("a refused token, and a pause that is longer than patience: it is kept", async (t) => {
  const it = await stage(t, { token: provider("bad", "good"), backoffBase: 20_000 });
  await it.socket.end(4501);
  await it.clock.pass(19_999);
  assert.deepEqual(it.states.map(({ state, code }) => [state, code]), [["connecting", undefined], ["waiting", 4501]]);
  await it.clock.pass(1);
  assert.equal(bearer(it.socket), "bearer.good");
});

test("a refused token: closed where there is no other", async (t) => {
  for (const token of ["text", provider("same"), provider("bad", null), provider("bad", "")]) {
    const it = await stage(t, { token });
    await it.socket.end(4501, "invalid token");
    assert.deepEqual(it.chat.status, { state: "closed", code: 4501, reason: "invalid token" });
    await it.clock.pass(1e6);
    assert.equal(it.sockets.length, 1);
  }
});

test("a second token that is refused without a hello between is the last", async (t) => {
  const token = provider("bad", "worse", "worst");
  const it = await stage(t, { token });
  await it.socket.end(4501);
  await it.clock.pass(500);
  await it.socket.end(1006);
  await it.clock.pass(1_000);
  await it.socket.end(4501);
  assert.deepEqual([it.chat.status.state, it.chat.status.code, it.sockets.length], ["closed", 4501, 3]);
});

test("a hello forgives, and so does reconnect()", async (t) => {
  const it = await stage(t, { token: provider("1", "2", "3", "4", "5") });
  await it.socket.end(4501);
  await it.clock.pass(500);
  await it.socket.hello({ cursor: "c0" });
  await it.socket.end(4501);
  assert.equal(it.chat.status.state, "waiting");
  await it.clock.pass(1_000);
  await it.socket.end(4501);
  assert.equal(it.chat.status.state, "closed");
  it.chat.reconnect();
  await settled();
  await it.socket.end(4501);
  assert.equal(it.chat.status.state, "waiting");
});

test("a refused token, and the provider fails or hangs: it is asked again later", async (t) => {
  const failing = await stage(t, { token: provider("bad", new Error("down"), "good") });
  await failing.socket.end(4501);
  assert.deepEqual([failing.chat.status.state, failing.chat.status.code], ["waiting", 1006]);
  await failing.clock.pass(500);
  assert.equal(bearer(failing.socket), "bearer.good");

  const answers = ["bad", new Promise(() => {}), "good"];
  const hanging = await stage(t, { token: () => answers.shift() });
  await hanging.socket.end(4501);
  await hanging.clock.pass(9_999);
  assert.equal(hanging.chat.status.state, "connecting");
  await hanging.clock.pass(501);
  assert.equal(bearer(hanging.socket), "bearer.good");
});

test("a token is refreshed on the line before it ends, and again by the end of the new one", async (t) => {
  const it = await holding(t, 3_600_000, 7_200_000, 10_800_000);
  await it.clock.pass(3_239_999);
  assert.equal(it.token.asked, 1);
  await it.clock.pass(1);
  const [offer] = it.offers();
  assert.deepEqual(offer, { type: "auth.refresh", data: { token: it.tokens[1] }, ref: offer.ref });
  await it.socket.event("auth.refreshed", { expires_at: "t" });
  await it.socket.ack(offer.ref);
  assert.deepEqual([it.events, it.reported], [["auth.refreshed"], []]);
  await it.clock.pass(3_563_999);
  assert.equal(it.offers().length, 1);
  await it.clock.pass(1);
  assert.deepEqual(it.offers().map(({ data }) => data.token), it.tokens.slice(1));
  assert.equal(it.sockets.length, 1);
});

test("it takes no place among the requests", async (t) => {
  const it = await holding(t, 20_000, 7_200_000);
  const requests = Array.from({ length: 64 }, () => it.chat.request("x"));
  await it.clock.pass(10_000);
  assert.equal(it.offers().length, 1);
  await it.socket.ack(it.offers()[0].ref);
  assert.equal(it.socket.of("x").length, 16);
  assert.equal(requests.length, 64);
});

for (const [code, more] of [
  ["UNKNOWN_EVENT", {}],
  ["INVALID_EVENT", {}],
  ["INTERNAL_ERROR", { detail: "UNKNOWN_EVENT" }],
]) {
  test(`a server that does not serve it (${code}) gets the new token at the door, at once`, async (t) => {
    const it = await holding(t, 20_000, 7_200_000);
    const [first] = it.sockets;
    await it.clock.pass(10_000);
    await it.socket.error(code, { ref: it.offers()[0].ref, ...more });
    assert.equal(first.closed, 1000);
    assert.equal(bearer(it.socket), `bearer.${it.tokens[1]}`);
    assert.equal(it.socket.url.searchParams.get("resume"), "c0");
    assert.equal(it.token.asked, 2);
    assert.deepEqual(it.states.map(({ state }) => state), ["connecting", "open", "connecting"]);
    assert.deepEqual([it.events, it.reported], [[], []]);
  });
}

test("a refreshed token that is refused is an error as any, and the server ends it", async (t) => {
  const it = await holding(t, 20_000, 7_200_000);
  await it.clock.pass(10_000);
  await it.socket.error("INVALID_TOKEN", { ref: it.offers()[0].ref });
  assert.deepEqual([it.events, it.chat.status.state], [["error"], "open"]);
});

test("a rate limit is waited for", async (t) => {
  const it = await holding(t, 20_000, 7_200_000);
  await it.clock.pass(10_000);
  await it.socket.error("RATE_LIMITED", { ref: it.offers()[0].ref, retry_after_ms: 700 });
  await it.clock.pass(699);
  assert.equal(it.offers().length, 1);
  await it.clock.pass(1);
  assert.deepEqual(it.offers().map(({ data }) => data.token), [it.tokens[1], it.tokens[1]]);
  assert.equal(it.token.asked, 2);
});

test("a provider that fails is asked again in time, but not without a pause", async (t) => {
  const it = await holding(t, 20_000, new Error("down"));
  await it.clock.pass(19_999);
  assert.ok(it.token.asked >= 4 && it.token.asked <= 8, String(it.token.asked));
  const { asked } = it.token;
  await it.clock.pass(5_000);
  assert.ok(it.token.asked <= asked + 1);
  assert.equal(it.chat.status.state, "open");
});

test("a provider that gives the same token again does not spin", async (t) => {
  const it = await holding(t, 20_000, 20_000);
  for (let n = 0; n < 30; n += 1) {
    await it.clock.pass(1_000);
    if (it.offers().length) await it.socket.event("auth.refreshed");
  }
  assert.ok(it.token.asked <= 10, String(it.token.asked));
});

test("a provider that has none any more ends it", async (t) => {
  const it = await holding(t, 20_000, null);
  await it.clock.pass(10_000);
  assert.deepEqual(it.chat.status, { state: "closed", code: 4502, reason: "no token" });
});

test("a refresh whose line is gone when the token comes says nothing", async (t) => {
  let give;
  const tokens = [jwt(Date.UTC(2024, 0, 1) / 1_000 + 20), new Promise((resolve) => (give = resolve)), "next"];
  const it = await stage(t, { token: () => tokens.shift() });
  await it.socket.hello({ cursor: "c0" });
  await it.clock.pass(10_000);
  await it.socket.end(1006);
  give("too late");
  await it.clock.pass(500);
  assert.deepEqual([bearer(it.socket), it.sockets[0].sent], ["bearer.next", []]);
});

test("a token of a month is refreshed in a month, and not at once", async (t) => {
  const day = 86_400_000;
  const it = await holding(t, 30 * day, 60 * day);
  await it.clock.pass(27 * day - 1);
  assert.equal(it.token.asked, 1);
  await it.clock.pass(1);
  assert.deepEqual(it.offers().map(({ data }) => data.token), [it.tokens[1]]);
});

for (const [what, token] of [
  ["a text", jwt(Date.UTC(2024, 0, 1) / 1_000 + 20)],
  ["what is no JWT", provider("opaque")],
  ["one that has ended by our clock", provider(jwt(Date.UTC(2023, 0, 1) / 1_000))],
]) {
  test(`${what} is not refreshed`, async (t) => {
    const it = await stage(t, { token });
    await it.socket.hello({ cursor: "c0" });
    await it.clock.pass(25_000);
    assert.deepEqual([it.socket.sent, token.asked ?? 1], [[], 1]);
  });
}
