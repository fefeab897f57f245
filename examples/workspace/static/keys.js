/** Keys and clicks: which act of the chat each of them is. One listener for the page; `data-action` says what is meant. */

const $ = (id) => document.getElementById(id);
const GROWS = CSS.supports("field-sizing", "content");

export class Keys {
  #chat;
  #deleting = "";

  constructor(chat, signal) {
    this.#chat = chat;
    const listen = (target, type, run) => target.addEventListener(type, run.bind(this), { signal });
    listen(document, "click", this.#click);
    listen(document, "submit", this.#submit);
    listen(document, "keydown", this.#key);
    listen(document, "input", this.#input);
    listen($("drawer-open"), "click", () => chat.screen.showDrawer());
    listen($("drawer-close"), "click", () => chat.screen.hideDrawer());
    listen($("scrim"), "click", () => chat.screen.hideDrawer());
    listen($("thread-close"), "click", () => chat.closeThread());
    listen(window, "resize", () => chat.screen.resized());
  }

  #click(event) {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    const chat = this.#chat;
    const { action, value, emoji } = button.dataset;
    const act = {
      open: () => chat.open(value),
      direct: () => chat.openDirect(value),
      older: () => chat.older(),
      thread: () => chat.openThread(value),
      edit: () => chat.edit(button.closest("#thread") ? "thread" : "channel", value),
      "cancel-edit": () => chat.cancelEdit(),
      pick: () => chat.screen.pick(button, value),
      react: () => {
        chat.screen.hidePicker();
        chat.react(value, emoji);
      },
      delete: () => {
        this.#deleting = value;
        $("confirm").showModal();
      },
      "really-delete": () => {
        $("confirm").close();
        chat.delete(this.#deleting);
      },
      resend: () => chat.resend(value),
      discard: () => chat.discard(value),
      create: () => {
        $("create-form").reset();
        $("create-form").querySelector(".error").textContent = "";
        $("create").showModal();
      },
      details: () => chat.screen.showDetails(),
      leave: () => this.#inDialog($("details"), () => chat.leave(), true),
      "close-dialog": () => button.closest("dialog").close(),
      reconnect: () => chat.live.reconnect(),
      "sign-out": () => chat.signOut(),
    }[action];
    act();
  }

  #submit(event) {
    const chat = this.#chat;
    const form = event.target;
    if (form.id === "sign-in-form") return;
    event.preventDefault();
    const fields = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    if (form.classList.contains("composer")) this.#send(form);
    else if (form.classList.contains("editor")) this.#save(form);
    else if (form.id === "create-form") {
      const type = form.elements.private.checked ? "private" : "public";
      this.#inDialog($("create"), () => this.#create({ ...fields, type }), false);
    } else if (form.id === "rename-form") this.#inDialog($("details"), () => chat.rename(fields), true);
    else if (form.id === "invite-form") this.#inDialog($("details"), () => chat.invite(fields.user), false);
  }

  /** Out of the dialog before the channel is opened: behind an open one nothing takes the focus. */
  async #create(asked) {
    const channel = await this.#chat.createChannel(asked);
    $("create").close();
    await this.#chat.open(channel);
  }

  /** What a dialog asks for; what goes wrong is said in it. */
  async #inDialog(dialog, act, closes) {
    const error = dialog.querySelector(".error");
    error.textContent = "";
    try {
      await act();
      if (closes) dialog.close();
    } catch ({ status, message }) {
      error.textContent = status ? `That did not work: ${message}.` : "The server does not answer. Try again in a moment.";
    }
  }

  #send(form) {
    const area = form.querySelector("textarea");
    const content = area.value.trim();
    if (!content) return;
    area.value = "";
    this.#grow(area);
    this.#chat.send(content, form.dataset.for === "thread" ? this.#chat.store.thread : undefined);
  }

  #save(form) {
    const content = form.querySelector("textarea").value.trim();
    if (content) this.#chat.saveEdit(form.dataset.value, content);
    else this.#chat.cancelEdit();
  }

  #input({ target }) {
    if (target.nodeName !== "TEXTAREA") return;
    this.#grow(target);
    if (target.closest(".composer")) this.#chat.live.typing(this.#chat.store.open, target.value.trim() !== "");
  }

  #grow(area) {
    if (GROWS) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  }

  #key(event) {
    if (event.isComposing) return; // the Enter that ends a word of Japanese sends nothing
    const { key, target } = event;
    if (key === "Escape") return this.#escape(event);
    if (target.nodeName === "TEXTAREA") {
      if (key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        target.form.requestSubmit();
      } else if (key === "ArrowUp" && target.value === "" && target.closest(".composer")) this.#editLast(event);
    } else if (target.matches(".message") && ["ArrowUp", "ArrowDown", "Home", "End"].includes(key)) this.#walk(event);
    else if (target.closest("#picker") && ["ArrowLeft", "ArrowRight"].includes(key)) {
      const next = key === "ArrowRight" ? target.nextElementSibling : target.previousElementSibling;
      next?.focus();
    }
  }

  /** Out of what was opened last. A dialog and the choice of reactions close by themselves. */
  #escape(event) {
    const chat = this.#chat;
    if (document.querySelector("dialog[open], :popover-open")) return;
    if (chat.editing) chat.cancelEdit();
    else if (!chat.screen.hideDrawer() && chat.store.thread) chat.closeThread();
    event.preventDefault();
  }

  #editLast(event) {
    const { store } = this.#chat;
    const where = event.target.closest("#thread") ? "thread" : "channel";
    const messages = where === "thread" ? store.replies(store.thread) : store.list(store.open);
    const last = messages.findLast((one) => one.user_id === store.me && !one.deleted_at && !one.pending && !one.failed);
    if (!last) return;
    event.preventDefault();
    this.#chat.edit(where, last.id);
  }

  #walk(event) {
    const rows = [...event.target.closest(".log").querySelectorAll(".message")];
    const at = rows.indexOf(event.target);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    if (!rows[to]) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    rows[to].tabIndex = 0;
    rows[to].focus();
  }
}
