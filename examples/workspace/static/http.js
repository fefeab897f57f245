/** This application's REST, asked with the token of a session. */

/** The server answered, and said no. What `fetch` raises by itself is that nobody answered. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether it is worth asking again: it was the server that could not. */
  get passing() {
    return this.status >= 500 || this.status === 429;
  }
}

export async function ask(method, path, body, token) {
  const headers = { ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  const said = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, said?.error ?? `the server answered ${answer.status}`);
  return said;
}
