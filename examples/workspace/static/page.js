/** The page: whose tab it is, and what then runs in it. */

import { Chat } from "./chat.js";
import { Refused, ask } from "./http.js";

const $ = (id) => document.getElementById(id);
let chat = null;

/** A tab is a user: its token lives as long as the tab, and another tab may be somebody else. */
async function begin() {
  const key = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  if (key) {
    try {
      await signIn({ key });
    } catch {
      signedOut("This address signs nobody in any more.");
    }
    return;
  }
  const token = sessionStorage.getItem("token");
  if (token) start(token);
  else signedOut("");
}

async function signIn(who) {
  const { token } = await ask("POST", "/login", who);
  sessionStorage.clear(); // where the one before him was
  sessionStorage.setItem("token", token);
  start(token);
}

function start(token) {
  chat?.end();
  $("sign-in").hidden = true;
  $("chat").hidden = false;
  chat = new Chat(token, signedOut);
}

function signedOut(notice) {
  chat?.end();
  chat = null;
  sessionStorage.clear();
  document.title = "Acme";
  $("chat").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-notice").textContent = notice;
  $("sign-in-form").elements.name.focus();
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  $("sign-in-error").textContent = "";
  try {
    await signIn({ name: form.elements.name.value, password: form.elements.password.value });
    form.reset();
  } catch (error) {
    $("sign-in-error").textContent = error instanceof Refused ? "That name and password do not belong together." : "The server does not answer.";
  }
});
addEventListener("hashchange", begin);
begin();
