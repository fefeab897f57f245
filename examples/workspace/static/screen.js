/** The screen: draws the store into the page, and minds the focus, the scrolling and what is said aloud. */

import { h, icon, render } from "./dom.js";
import { ICONS } from "./icons.js";
import { connection } from "./view-connection.js";
import { channelLog, threadLog } from "./view-messages.js";
import { details, heading, me, nameOf, nav } from "./view-sidebar.js";
import { REACTIONS, first, typing } from "./words.js";

const $ = (id) => document.getElementById(id);
const NEAR = 80;
const narrow = matchMedia("(max-width: 760px)");
const hovers = matchMedia("(hover: hover)");

for (const [id, path] of Object.entries({ "drawer-open": ICONS.menu, "drawer-close": ICONS.close, "thread-close": ICONS.close })) {
  $(id).replaceChildren(icon(path));
}
for (const button of document.querySelectorAll(".send")) button.replaceChildren(icon(ICONS.send));

/** Whoever reads the newest goes on reading the newest: when more comes, and when a keyboard or a thread takes room. */
function stayAtEnd(log) {
  if (log.dataset.end === "true") log.scrollTop = log.scrollHeight;
}

const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => stayAtEnd(target)));
for (const log of [$("log"), $("thread-log")]) {
  resized.observe(log);
  log.addEventListener("scroll", () => (log.dataset.end = String(log.scrollHeight - log.scrollTop - log.clientHeight < NEAR)));
}

export class Screen {
  keepPlace = false; // older messages came in above: what one reads stays where it is
  #drafts = new Map();
  #drawing = false;
  #ended = false;
  #shown = { channel: undefined, thread: "", editing: "" };
  #ticking;
  #noticed;

  constructor(chat) {
    this.chat = chat;
    this.#drawer(false);
  }

  end() {
    this.#ended = true; // an answer that comes late is not shown to whoever signs in next
    clearInterval(this.#ticking);
    clearTimeout(this.#noticed);
    for (const id of ["draft", "thread-draft"]) $(id).value = "";
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    for (const id of ["nav", "me", "heading", "log", "thread-log", "connection", "typing", "said"]) $(id).replaceChildren();
  }

  /** Once for all that changes now. */
  draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    queueMicrotask(() => {
      this.#drawing = false;
      if (!this.#ended) this.#draw();
    });
  }

  #draw() {
    const { store, editing } = this.chat;
    if (!$("chat").hidden) this.#title();
    render($("nav"), nav(store));
    render($("me"), me(store));
    render($("heading"), heading(store));
    if ($("details").open) render($("details-body"), details(store));
    this.#connection();
    this.#log($("log"), store.open, this.#shown.channel, channelLog(store, editing));
    $("thread").hidden = !store.thread;
    $("chat").classList.toggle("with-thread", Boolean(store.thread));
    if (store.thread) this.#log($("thread-log"), store.thread, this.#shown.thread, threadLog(store, editing));
    const { channel } = store;
    const place = channel ? (channel.type === "direct" ? nameOf(store, channel) : `#${channel.name}`) : "";
    $("thread-channel").textContent = place;
    $("draft").placeholder = `Message ${place}`;
    $("composer").querySelector("label").textContent = `Message ${place}`;
    $("typing").textContent = typing(store.typists(store.open).map((id) => first(store.user(id).name)));
    if (editing && editing !== this.#shown.editing) this.#focusEditor();
    this.#shown = { channel: store.open, thread: store.thread, editing };
  }

  #title() {
    const { unread } = this.chat.store;
    const name = this.chat.store.channel ? nameOf(this.chat.store, this.chat.store.channel) : "";
    document.title = `${unread ? `(${unread > 99 ? "99+" : unread}) ` : ""}${name ? `${name} · ` : ""}Acme`;
  }

  #connection() {
    const { live, everOpen, loading, replayed } = this.chat;
    const status = live?.status ?? { state: "connecting" };
    const now = Date.now();
    render($("connection"), connection(status, { everOpen, loading, replayed, online: navigator.onLine, now }));
    clearInterval(this.#ticking);
    if (status.state === "waiting") this.#ticking = setInterval(() => this.#connection(), 1_000 - ((now - status.retryAt) % 1_000));
  }

  /** A list of messages: at its end it stays at its end, elsewhere what one reads stays where it is. */
  #log(log, now, before, content) {
    const { scrollHeight, scrollTop } = log;
    const rows = log.querySelector(".message");
    const focused = document.activeElement;
    render(log, content);
    if (now !== before || !rows) {
      const divider = log.querySelector(".new");
      log.dataset.end = String(!divider);
      if (divider) divider.scrollIntoView({ block: "center" });
    } else if (this.keepPlace) {
      log.scrollTop = scrollTop + log.scrollHeight - scrollHeight;
      this.keepPlace = false;
    }
    stayAtEnd(log);
    // One message can be reached by the tabulator key, the others from there by the arrows.
    const messages = [...log.querySelectorAll(".message")];
    const current = messages.find((row) => row.contains(document.activeElement)) ?? messages.at(-1);
    if (current) current.tabIndex = 0;
    if (!focused.isConnected) this.focusMessage(current?.id); // what had it is gone
  }

  // --- what its user went to

  opened() {
    const { store } = this.chat;
    const draft = $("draft");
    this.#drafts.set(this.#shown.channel, draft.value);
    draft.value = this.#drafts.get(store.open) ?? "";
    this.#drawer(false);
    this.draw();
    if (hovers.matches) draft.focus(); // elsewhere it would bring up the keyboard
    else $("main").focus();
  }

  openedThread() {
    $("thread-draft").value = "";
    this.draw();
    queueMicrotask(() => (hovers.matches ? $("thread-draft") : $("thread-close")).focus());
  }

  focusMessage(id) {
    queueMicrotask(() => {
      const row = document.getElementById(id);
      if (row) row.focus();
      else $("draft").focus();
    });
  }

  #focusEditor() {
    const area = document.querySelector(".editor textarea");
    area?.focus();
    area?.setSelectionRange(area.value.length, area.value.length);
    area?.scrollIntoView({ block: "nearest" });
  }

  #drawer(open) {
    $("chat").classList.toggle("drawer", open);
    $("drawer-open").setAttribute("aria-expanded", String(open));
    $("sidebar").inert = narrow.matches && !open;
    $("main").inert = narrow.matches && open;
  }

  showDrawer() {
    this.#drawer(true);
    ($("nav").querySelector("[aria-current]") ?? $("drawer-close")).focus();
  }

  /** Whether it was open. */
  hideDrawer() {
    const open = $("chat").classList.contains("drawer");
    this.#drawer(false);
    if (open) $("drawer-open").focus();
    return open;
  }

  resized() {
    this.#drawer(false);
  }

  showDetails() {
    render($("details-body"), details(this.chat.store));
    $("details").showModal();
  }

  /** The choice of reactions, beside the button that asked for it. */
  pick(button, id) {
    const picker = $("picker");
    picker.replaceChildren(
      ...this.chat.store.emoji.map((emoji) =>
        h(
          "button",
          { role: "menuitem", "data-action": "react", "data-value": id, "data-emoji": emoji, "aria-label": REACTIONS[emoji] ?? emoji, title: REACTIONS[emoji] },
          emoji,
        ),
      ),
    );
    picker.showPopover();
    const place = button.getBoundingClientRect();
    const { width, height } = picker.getBoundingClientRect();
    picker.style.left = `${Math.max(8, Math.min(place.right - width, innerWidth - width - 8))}px`;
    picker.style.top = `${place.top - height - 6 > 8 ? place.top - height - 6 : place.bottom + 6}px`;
    picker.firstChild.focus();
  }

  hidePicker() {
    if ($("picker").matches(":popover-open")) $("picker").hidePopover();
  }

  // --- what is said

  /** A message came: read aloud where one looks. */
  say(message) {
    const { store } = this.chat;
    if (message.user_id === store.me || message.channel_id !== store.open || !store.attentive) return;
    $("said").textContent = `${first(store.user(message.user_id).name)}: ${message.content}`;
  }

  notice(words) {
    $("notice").textContent = words;
    clearTimeout(this.#noticed);
    this.#noticed = setTimeout(() => ($("notice").textContent = ""), 6_000);
  }
}
