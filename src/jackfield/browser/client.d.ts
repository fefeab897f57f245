// The client's own half. `jackfield types` puts the application's in front: `Events`, data by type of what the server
// says, and `Requests`, data by type of what a client may say.

/** An event as it came. */
export interface Envelope<Type extends string = string, Data = unknown> {
  type: Type;
  data: Data;
  /** `error` has none. */
  workspace_id?: string;
  timestamp: string;
  /** Of durable events: where to go on behind it. */
  cursor?: string;
}

/**
 * - `connecting`: an attempt is under way
 * - `open`: `hello` has come
 * - `waiting`: a pause before the next attempt, `retryAt`; `offline` is the same on a machine that has no network
 * - `closed`: for good, by `close()` or by the server: see `code`. 4501 asks for a new login; 4502 and 4503 are "no
 *   access"; 4502 also where `token` had none to give
 */
export type Status =
  | { readonly state: "connecting" | "open"; readonly code?: undefined; readonly reason?: undefined }
  | {
      readonly state: "waiting" | "offline";
      /** The close code that ended the last connection; 1006 where it was cut or given up. */
      readonly code: number;
      readonly reason: string;
      /** When the next attempt begins, in milliseconds since 1970. */
      readonly retryAt: number;
    }
  | { readonly state: "closed"; readonly code: number; readonly reason: string };

/** What becomes of a request that was not handled. */
export declare class JackfieldError extends globalThis.Error {
  readonly name: "JackfieldError";
  /** The server's, such as "UNAUTHORIZED" or one of a plugin; or "BUFFER_FULL", or "CLOSED". */
  readonly code: string;
  /** What is wrong with which field, for whoever writes the client. */
  readonly detail?: string;
  /** Milliseconds. */
  readonly retryAfter?: number;
  /** With "CLOSED": why. */
  readonly closeCode?: number;
}

export interface Options<Hello = unknown> {
  /**
   * Who you are. A function is asked at every connect, and again before a JWT ends; it has to answer within `patience`.
   * Nothing, "" or null from it: no rights, and the connection is closed. It rejecting is a failed attempt. Leave it
   * out where a cookie says who you are.
   */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /**
   * Load your state afresh: the first time, and whenever the server no longer has what was missed (`reason`). Events
   * wait until it resolves, and follow then; those that the loaded state already has are yours to ignore, by their ids.
   * Where it rejects, the connection is made anew after a pause, and it is called again.
   */
  sync?: (hello: Hello, why: { reason: string | null }) => unknown;
  /** `cursor` of a former page that kept its state: what came since follows, and `sync` is called only if it cannot. */
  cursor?: string | null;
  /** Say `presence` "away" when the page was hidden for a minute, "online" when it is seen again. Default: false. */
  presence?: boolean;
  /** Milliseconds from an attempt to its `hello`, and from a ping to a sign of life. Default: 10,000. */
  patience?: number;
  /** A pause is at random up to `backoffBase` milliseconds (500), doubled by each failure in a row. */
  backoffBase?: number;
  /** The longest, in milliseconds. Default: 20,000. */
  backoffCap?: number;
  /** A connection that stood for so many milliseconds ends the row of failures. Default: 30,000. */
  stable?: number;
  /** Most requests without an answer. Default: 64. */
  buffer?: number;
  /** Most of them on their way at once. Default: 16. */
  window?: number;
  /** Milliseconds between two that say the same of typing. Default: 3,000. */
  typingRepeat?: number;
  /** Milliseconds without a keystroke after which typing is over. Default: 5,000. */
  typingIdle?: number;
  /** Where it is not `globalThis.WebSocket`. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocket;
  /** Time, chance and the page, for tests. */
  clock?: { now(): number; setTimeout(run: () => void, ms: number): unknown; clearTimeout(timer: any): void };
  random?: () => number;
  page?: object;
}

/** The data of `hello`, where the generated half has it. */
export type HelloOf<E> = E extends { hello: infer Hello } ? Hello : unknown;
/** Types that are handed out; the others are the connection's own. */
export type Heard<E> = Exclude<keyof E & string, "hello" | "pong" | "ack" | "status" | "*">;
/** Any event that is handed out; `type` tells which. */
export type AnyEvent<E> = { [Type in Heard<E>]: Envelope<Type, E[Type]> }[Heard<E>];

export interface Client<E extends object = Events, R extends object = Requests> {
  /** Behind the newest event that was handed out. Keep it with your state; it is `Options.cursor` of the next page. */
  readonly cursor: string | undefined;
  /** Of the newest connection; null before the first. */
  readonly hello: HelloOf<E> | null;
  readonly status: Status;
  /** The connection's own state. What this returns ends the listening, as for all of them. */
  on(type: "status", listener: (status: Status) => void): () => void;
  /** Every event, also of types that these declarations do not have. */
  on(type: "*", listener: (data: AnyEvent<E>["data"], envelope: AnyEvent<E>) => void): () => void;
  /** Events of a type; "error": those that belong to no request. A listener that throws keeps the event from nobody. */
  on<T extends Heard<E>>(type: T, listener: (data: E[T], envelope: Envelope<T, E[T]>) => void): () => void;
  /**
   * Say something; resolves when the server has handled it, rejects with `JackfieldError`. It waits for a connection
   * and for a rate limit, and is sent again where the line is cut before the answer: at least once. A rejection that
   * nobody awaits is an unhandled one, on purpose.
   */
  request<T extends keyof R & string>(type: T, ...data: {} extends R[T] ? [data?: R[T]] : [data: R[T]]): Promise<void>;
  /** At every keystroke; with false when the draft is dropped. What is sent of it is decided by the client. */
  typing(channel: string, isTyping?: boolean): void;
  /** Come back now, out of a pause; anew, where it is open; or after the server had closed. */
  reconnect(): void;
  /** For good. */
  close(): void;
}

/** Connect to a workspace: `/ws/acme`, or a ws:, wss:, http: or https: address. */
export declare function connect<E extends object = Events, R extends object = Requests>(
  url: string | URL,
  options?: Options<HelloOf<E>>,
): Client<E, R>;
