// Right uses of the types. It is compiled beside `jackfield.js`'s declarations: `jackfield types > jackfield.d.ts`.

import {
  connect,
  JackfieldError,
  type Client,
  type Envelope,
  type Events,
  type Hello,
  type MessageNew,
  type PresenceUpdated,
  type Requests,
  type Status,
} from "./jackfield.js";

const chat: Client = connect("/ws/acme", {
  token: async () => (await fetch("/token")).text(),
  sync: async (hello, { reason }) => {
    const user: string = hello.user_id;
    const largest: number = hello.limits.max_event_bytes;
    const present: unknown = hello.state.presence;
    const why: string | null = reason;
    if (hello.resume?.recovered === false) {
      const lost: "unknown" | "expired" | "too_many" | "foreign" = hello.resume.reason;
      console.log(lost);
    }
    console.log(user, largest, present, why);
  },
});

const off: () => void = chat.on("message.new", (data, envelope) => {
  const content: string = data.content;
  const attachments: unknown[] = data.attachments; // always there
  const parent: string | undefined = data.parent_message_id;
  const type: "message.new" = envelope.type;
  const cursor: string | undefined = envelope.cursor;
  console.log(content, attachments.length, parent, type, cursor, envelope.timestamp);
});
off();

chat.on("presence.updated", ({ status }) => {
  switch (status) {
    case "online":
    case "away":
    case "offline":
      return;
    default: {
      const never: never = status; // those are all
      return never;
    }
  }
});

chat.on("error", (data) => {
  if (data.code === "RATE_LIMITED") console.log(data.retry_after_ms ?? 1000);
  if (data.code === "A_CODE_OF_A_PLUGIN") console.log(data.message); // there may be others
});

chat.on("status", (status: Status) => {
  if (status.state === "waiting") console.log(status.retryAt);
});

chat.on("*", (_, envelope) => {
  if (envelope.type === "typing.start") {
    const channel: string = envelope.data.channel_id;
    console.log(channel);
  }
});

const said: Promise<void> = chat.request("presence", { status: "away" });
said.catch((error: unknown) => {
  if (error instanceof JackfieldError) console.log(error.code, error.retryAfter);
});
void chat.request("typing", { channel_id: "general", is_typing: true });
void chat.request("auth.refresh", { token: "…" });
chat.typing("general");
chat.typing("general", false);

const hello: Hello | null = chat.hello;
const heard: Events["presence.updated"] = { user_id: "alice", status: "online" } satisfies PresenceUpdated;
const typing: Requests["typing"] = { channel_id: "general", is_typing: false };
const frame: Envelope<"message.new", MessageNew> = {
  type: "message.new",
  data: {
    id: "m1",
    channel_id: "general",
    user_id: "alice",
    content: "Hello, world!",
    attachments: [],
    reactions: [],
    created_at: "2024-01-01T12:00:00.000Z",
  },
  workspace_id: "acme",
  timestamp: "2024-01-01T12:00:00.000Z",
};
console.log(hello?.connection_id, heard, typing, frame, chat.cursor, chat.status.state);
chat.close();
