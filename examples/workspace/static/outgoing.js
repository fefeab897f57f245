/**
 * What was written and has to reach the server: one after the other, again until it is answered. Each message has its id
 * from here, so that one whose answer was lost is there once all the same.
 */
export class Outgoing {
  #waiting = [];
  #running = false;
  #wake = () => {};

  /**
   * @param {(message: object) => Promise<object>} post sends it, and gives it as the server has it
   * @param {{ sent(message: object): void, failed(message: object, error: Error): void }} told
   * @param {(run: () => void) => void} later calls in a moment, for a line that comes back and says nothing of it
   */
  constructor(post, told, later = (run) => setTimeout(run, 3_000)) {
    this.post = post;
    this.told = told;
    this.later = later;
  }

  add(message) {
    this.#waiting.push(message);
    this.#run();
  }

  /** The line is back: now rather than in a moment. */
  again() {
    this.#wake();
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    while (this.#waiting.length) {
      const [message] = this.#waiting;
      try {
        this.told.sent(await this.post(message));
        this.#waiting.shift();
      } catch (error) {
        if (error.status === undefined || error.passing) await this.#pause();
        else {
          this.#waiting.shift();
          this.told.failed(message, error);
        }
      }
    }
    this.#running = false;
  }

  #pause() {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.later(resolve);
    });
  }
}
