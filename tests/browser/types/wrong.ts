// Wrong uses of the types: each has to be an error, and where one is none, the line above it is.

import { connect, type Events, type MessageNew, type Requests } from "./jackfield.js";

const chat = connect("/ws/acme");

// @ts-expect-error no such event
chat.on("message.created", () => undefined);
// @ts-expect-error a client says it
chat.on("auth.refresh", () => undefined);
// @ts-expect-error the client answers it by itself
chat.on("pong", () => undefined);

chat.on("message.new", (data, envelope) => {
  // @ts-expect-error no such field
  data.text;
  // @ts-expect-error a text
  const content: number = data.content;
  // @ts-expect-error it may not be there
  const parent: string = data.parent_message_id;
  // @ts-expect-error what an application attaches, nobody knows here
  data.attachments[0].url;
  // @ts-expect-error another type
  const type: "message.updated" = envelope.type;
  return [content, parent, type];
});

chat.on("presence.updated", (data) => {
  // @ts-expect-error none of the three
  return data.status === "busy";
});

// @ts-expect-error the server says it
void chat.request("message.new", {});
// @ts-expect-error no such event
void chat.request("poll.vote", {});
// @ts-expect-error is_typing is missing
void chat.request("typing", { channel_id: "general" });
// @ts-expect-error no boolean
void chat.request("typing", { channel_id: "general", is_typing: "yes" });
// @ts-expect-error none that a client may say
void chat.request("presence", { status: "offline" });
// @ts-expect-error no such field
void chat.request("presence", { status: "away", until: "noon" });
// @ts-expect-error its fields are missing
void chat.request("presence");
// @ts-expect-error it gets no ack
void chat.request("ping");

// @ts-expect-error created_at is missing, among others
const message: MessageNew = { id: "m1", content: "" };
// @ts-expect-error null is never said
const updated: Events["channel.updated"] = { id: "general", name: null };
// @ts-expect-error no such event
const unknown: Requests["message.new"] = {};
// @ts-expect-error it may not be there yet
chat.hello.user_id;
console.log(message, updated, unknown);
