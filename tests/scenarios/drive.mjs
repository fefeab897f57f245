/**
 * Plays the scenarios that all clients share on the browser's client: commands in, what happened out.
 *
 * In Node: `node --experimental-websocket drive.mjs path/to/jackfield.js`, a JSON object a line on stdin and stdout.
 * In a page: import `driver`.
 */

/** Option of a scenario, as the Python client calls it → ours, and how many of ours one of it is. */
const OPTIONS = {
  patience: ["patience", 1000],
  backoff_base: ["backoffBase", 1000],
  backoff_cap: ["backoffCap", 1000],
  stable: ["stable", 1000],
  buffer: ["buffer", 1],
  window: ["window", 1],
  typing_repeat: ["typingRepeat", 1000],
  typing_idle: ["typingIdle", 1000],
};

function optionsOf({ cursor, ...numbers } = {}) {
  const options = cursor === undefined || cursor === null ? {} : { cursor };
  for (const [name, value] of Object.entries(numbers)) {
    if (!(name in OPTIONS)) throw new Error(`no such option of a scenario: ${name}`);
    const [ours, scale] = OPTIONS[name];
    options[ours] = value * scale;
  }
  return options;
}

/** One method a command, for `connect` of jackfield.js; `say` is given every entry of the log. */
export function driver(connect, say) {
  let chat;
  return {
    connect({ url, tokens, options }) {
      let asked = 0;
      const token = () => {
        asked += 1;
        say({ log: "token", n: asked });
        return tokens[Math.min(asked, tokens.length) - 1];
      };
      const sync = (hello, { reason }) => say({ log: "sync", reason });
      chat = connect(url, { sync, token: tokens && token, ...optionsOf(options) });
      chat.on("status", ({ state, code }) => say({ log: "status", state, code: code ?? null }));
      chat.on("*", (data, { type }) => say({ log: "event", type, data }));
      chat.on("error", () => {}); // "*" has said it
    },
    request({ name, type, data }) {
      chat.request(type, data).then(
        () => say({ log: "acked", name }),
        ({ code }) => say({ log: "refused", name, code }),
      );
    },
    typing({ channel_id, is_typing }) {
      chat.typing(channel_id, is_typing);
    },
    cursor() {
      say({ log: "cursor", cursor: chat.cursor ?? null });
    },
    close() {
      chat?.close();
    },
  };
}

async function play() {
  const { createInterface } = await import("node:readline");
  const { pathToFileURL } = await import("node:url");
  const { connect } = await import(pathToFileURL(process.argv[2]));
  const commands = driver(connect, (entry) => process.stdout.write(`${JSON.stringify(entry)}\n`));
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    commands[command.do](command);
  }
  commands.close(); // whoever gave the commands has gone
}

async function isMain() {
  const { realpathSync } = await import("node:fs");
  const { fileURLToPath } = await import("node:url");
  return Boolean(process.argv[1]) && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url);
}

if (globalThis.process?.versions?.node && (await isMain())) await play();
