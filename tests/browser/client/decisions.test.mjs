/** What is decided without a socket. */
import assert from "node:assert/strict";
import test from "node:test";

import {
  JackfieldError,
  Requests,
  Seen,
  Typing,
  exactCode,
  expiry,
  handshake,
  pause,
  refreshIn,
  resolve,
  verdict,
} from "../../../src/jackfield/browser/jackfield.js";
import { jwt } from "./stage.mjs";

const STOP = { back: false };
const backoff = (atLeast = 0) => ({ back: true, atLeast });

const VERDICTS = [
  [1000, "", STOP],
  [1001, "", backoff()],
  [1003, "", STOP],
  [1006, "", backoff()],
  [1009, "", STOP],
  [1011, "", backoff(5_000)],
  [1012, "", backoff()],
  [1013, "", backoff()],
  [1013, "retry_after_ms=700", backoff(700)],
  [4001, "", backoff()],
  [4001, "retry_after_ms=8000", { back: true, within: 8_000 }],
  [4002, "", backoff()],
  [4003, "", backoff()],
  [4004, "", backoff()],
  [4006, "retry_after_ms=60000", backoff(60_000)],
  [4499, "", backoff()],
  [4321, "retry_after_ms=5", backoff(5)],
  [3000, "", backoff()],
  [4500, "", STOP],
  [4501, "", STOP],
  [4502, "", STOP],
  [4503, "", STOP],
  [4504, "retry_after_ms=5", STOP],
  [4999, "", STOP],
];

for (const [code, reason, wanted] of VERDICTS) {
  test(`close code ${code} ${reason}`, () => assert.deepEqual(verdict(code, reason), wanted));
}

test("a reason that only looks like a wait is none", () => {
  for (const reason of ["", "=-1", "=1e9", "=5 ", "=5.5"]) {
    assert.deepEqual(verdict(1013, `retry_after_ms${reason}`), backoff(), reason);
  }
});

test("a wait that no timer can hold is not believed", () => {
  assert.deepEqual(verdict(1013, "retry_after_ms=99999999999"), backoff());
});

test("a pause is at random below a bound that doubles up to a cap, on top of what the server asked for", () => {
  const most = (fate, failures) => pause(fate, failures, { backoffBase: 500, backoffCap: 20_000, random: () => 1 });
  const rows = [0, 1, 2, 3, 4, 5, 6, 5000].map((failures) => most(backoff(), failures));
  assert.deepEqual(rows, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
  assert.equal(most(backoff(700), 1), 1_700);
  assert.equal(most({ back: true, within: 8_000 }, 9), 8_000);
  const least = (fate) => pause(fate, 3, { backoffBase: 500, backoffCap: 20_000, random: () => 0 });
  assert.deepEqual([least(backoff(700)), least({ back: true, within: 8_000 })], [700, 0]);
});

test("an address is a path of the page, or whole", () => {
  const page = "https://chat.example/rooms/1";
  assert.equal(resolve("/ws/acme", page), "wss://chat.example/ws/acme");
  assert.equal(resolve("/ws/acme", "http://localhost:8000/"), "ws://localhost:8000/ws/acme");
  assert.equal(resolve("https://a.example/ws/b?c=d#e"), "wss://a.example/ws/b?c=d");
  assert.equal(resolve("ws://127.0.0.1:1/ws/b"), "ws://127.0.0.1:1/ws/b");
  assert.equal(resolve(new URL("http://a.example/ws/b")), "ws://a.example/ws/b");
  assert.throws(() => resolve("/ws/acme"), TypeError);
  assert.throws(() => resolve("ftp://a.example/ws/b"), /ftp:.*give a path/);
});

const EVERY = "!#$%&'*+-.^_`|~azAZ09";

test("a token is a subprotocol where its characters may stand in one, else in the address, never both", () => {
  assert.deepEqual(handshake("ws://a/ws/b", EVERY, ""), {
    url: "ws://a/ws/b?resume=",
    protocols: ["jackfield.v1", `bearer.${EVERY}`],
  });
  for (const token of ["a b", "a/b", "a=", "ä", "a,b", "a\nb", '"', "(", "a:b", "a@b", "{}"]) {
    const { url, protocols } = handshake("ws://a/ws/b", token, "cursor");
    assert.deepEqual(protocols, []);
    assert.equal(new URL(url).searchParams.get("token"), token);
    assert.equal(new URL(url).searchParams.get("resume"), "cursor");
  }
  const { url } = handshake("ws://a/ws/b?token=old&x=1&resume=old", "new", "c+/=");
  assert.equal(url, "ws://a/ws/b?x=1&resume=c%2B%2F%3D");
  for (const none of [undefined, null, ""]) {
    assert.deepEqual(handshake("ws://a/b", none, ""), { url: "ws://a/b?resume=", protocols: [] });
  }
});

test("only what looks like a JWT with an exp says when it ends", () => {
  assert.equal(expiry(jwt(1_700_000_000)), 1_700_000_000_000);
  assert.equal(expiry(jwt(1_700_000_000.5)), 1_700_000_000_500);
  const others = ["", "abc", "a.b.c", "a.b", undefined, null];
  const shaped = [jwt("soon"), jwt(undefined), `${jwt(1)}.more`, "a.bnVsbA.c"];
  for (const token of [...others, ...shaped]) assert.equal(expiry(token), undefined, String(token));
});

test("a token is refreshed before it ends, the earlier the more it has, and not before half of it", () => {
  const [latest, earliest] = [() => 0, () => 1];
  assert.equal(refreshIn(3_600_000, latest), 3_240_000); // 10 % of an hour before
  assert.equal(refreshIn(3_600_000, earliest), 2_916_000); // and 10 % of that earlier
  assert.equal(refreshIn(120_000, latest), 90_000); // 30 s before
  assert.equal(refreshIn(40_000, latest), 20_000);
  assert.equal(refreshIn(60_000, earliest), 30_000);
  assert.equal(refreshIn(500, latest), 1_000);
});

test("strict error codes hide the exact one in the detail", () => {
  assert.equal(exactCode({ code: "UNKNOWN_EVENT" }), "UNKNOWN_EVENT");
  assert.equal(exactCode({ code: "INTERNAL_ERROR", detail: "UNKNOWN_EVENT" }), "UNKNOWN_EVENT");
  assert.equal(exactCode({ code: "INTERNAL_ERROR", detail: "INVALID_EVENT" }), "INVALID_EVENT");
  assert.equal(exactCode({ code: "INTERNAL_ERROR", detail: "something" }), "INTERNAL_ERROR");
  assert.equal(exactCode({ code: "POLL_CLOSED", detail: "UNKNOWN_EVENT" }), "POLL_CLOSED");
});

function asked(count, bounds = { buffer: 64, window: 16 }) {
  const requests = new Requests(bounds);
  for (let ref = 1; ref <= count; ref += 1) assert.equal(requests.add({ ref }), true);
  return requests;
}
const refs = (requests) => requests.map(({ ref }) => ref);
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

test("no more than a bound wait, and no more than a window are on their way", () => {
  const requests = asked(64);
  assert.equal(requests.add({ ref: 65 }), false);
  assert.deepEqual(refs(requests.due()), numbers(1, 16));
  assert.deepEqual(refs(requests.due()), []);
  assert.equal(requests.answered(3).ref, 3);
  assert.deepEqual(refs(requests.due()), [17]);
  assert.equal(requests.add({ ref: 65 }), true);
  assert.equal(requests.answered(3), undefined);
  assert.equal(requests.answered("nobody's"), undefined);
});

test("what was on its way when the line was cut is sent again, before what is newer", () => {
  const requests = asked(5, { buffer: 64, window: 2 });
  requests.due();
  requests.answered(1);
  requests.due();
  requests.unsend();
  assert.deepEqual(refs(requests.due()), [2, 3]);
});

test("after a rate limit nothing goes out until it is over, and then one at a time until there is nothing left", () => {
  const requests = asked(4, { buffer: 64, window: 3 });
  assert.deepEqual(refs(requests.due()), [1, 2, 3]);
  requests.answered(1);
  assert.equal(requests.limited(2), true);
  assert.equal(requests.limited(3), true);
  assert.equal(requests.limited("nobody's"), false);
  assert.deepEqual(refs(requests.due()), []);
  requests.release();
  assert.deepEqual(refs(requests.due()), [2]);
  assert.deepEqual(refs(requests.due()), []);
  requests.add({ ref: 5 });
  for (const ref of [2, 3, 4]) {
    requests.answered(ref);
    assert.deepEqual(refs(requests.due()), [ref + 1]);
  }
  requests.answered(5);
  for (const ref of numbers(6, 9)) requests.add({ ref });
  assert.deepEqual(refs(requests.due()), [6, 7, 8]);
});

test("while one of them is still on its way, none of those that were limited is sent", () => {
  const requests = asked(2);
  requests.due();
  requests.limited(1);
  requests.release();
  assert.deepEqual(refs(requests.due()), []);
  requests.answered(2);
  assert.deepEqual(refs(requests.due()), [1]);
});

test("all that is left comes out at the end, and the next begins without a limit", () => {
  const requests = asked(2);
  requests.due();
  requests.limited(1);
  assert.deepEqual(refs(requests.clear()), [1, 2]);
  for (const ref of [3, 4]) requests.add({ ref });
  assert.deepEqual(refs(requests.due()), [3, 4]);
});

test("a keystroke is told when it is the first in a while", () => {
  const typing = new Typing({ typingRepeat: 3_000 });
  const told = [0, 1, 2_999, 3_000, 5_999, 6_000].filter((now) => typing.key("a", now));
  assert.deepEqual(told, [0, 3_000, 6_000]);
  assert.equal(typing.key("b", 6_000), true);
  assert.deepEqual([typing.stop("a"), typing.stop("a"), typing.key("a", 6_001)], [true, false, true]);
  typing.clear();
  assert.deepEqual([typing.stop("b"), typing.key("a", 6_002)], [false, true]);
});

test("a thousand cursors are remembered", () => {
  const seen = new Seen();
  for (let n = 0; n < 1_000; n += 1) assert.equal(seen.isNew(`c${n}`), true);
  assert.equal(seen.isNew("c0"), false);
  assert.equal(seen.isNew("c1000"), true);
  assert.equal(seen.isNew("c1"), false);
  assert.equal(seen.isNew("c0"), true);
});

test("an error is one, and says what it has", () => {
  const error = new JackfieldError("RATE_LIMITED", "slowly", { retryAfter: 5 });
  assert.ok(error instanceof Error);
  assert.equal(String(error), "JackfieldError: slowly");
  const nothing = { detail: undefined, closeCode: undefined };
  assert.deepEqual({ ...error }, { name: "JackfieldError", code: "RATE_LIMITED", retryAfter: 5, ...nothing });
});
