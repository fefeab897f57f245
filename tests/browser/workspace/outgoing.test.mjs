/** What was written reaches the server: in order, once the line is back, and never twice under two ids. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

import { Outgoing } from "../../../examples/workspace/static/outgoing.js";

/** `answers` are what the server does with each message that is posted, one after the other. */
function line(...answers) {
  const log = [];
  const later = [];
  const outgoing = new Outgoing(
    async (message) => {
      log.push(`post ${message.id}`);
      const answer = answers.shift() ?? "ok";
      if (answer === "cut") throw new TypeError("Failed to fetch");
      if (answer !== "ok") throw Object.assign(new Error("no"), { status: answer, passing: answer >= 500 });
      return message;
    },
    { sent: ({ id }) => log.push(`sent ${id}`), failed: ({ id }) => log.push(`failed ${id}`) },
    (run) => later.push(run),
  );
  return { outgoing, log, later };
}

test("one after the other", async () => {
  const { outgoing, log } = line();
  for (const id of ["a", "b"]) outgoing.add({ id });
  await turn();
  assert.deepEqual(log, ["post a", "sent a", "post b", "sent b"]);
});

test("a cut line waits, and the order stays", async () => {
  const { outgoing, log, later } = line("cut", "cut", 503);
  for (const id of ["a", "b"]) outgoing.add({ id });
  await turn();
  outgoing.again();
  await turn();
  later[1]();
  await turn();
  assert.deepEqual(log, ["post a", "post a", "post a"]);
  outgoing.again();
  await turn();
  assert.deepEqual(log, ["post a", "post a", "post a", "post a", "sent a", "post b", "sent b"]);
  outgoing.add({ id: "c" });
  await turn();
  assert.equal(log.at(-1), "sent c");
});

test("what is refused holds up nothing", async () => {
  const { outgoing, log } = line(422);
  for (const id of ["a", "b"]) outgoing.add({ id });
  await turn();
  assert.deepEqual(log, ["post a", "failed a", "post b", "sent b"]);
});
