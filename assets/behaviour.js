// How the page's plain elements behave, by event delegation, so that React may replace them at any time.
//   [data-composer]    the form with the question: Enter sends, it grows, it keeps a draft, it never loses text;
//                      what was typed is [data-for] one person, until [data-sign-out] is submitted; a question has
//                      [data-most] characters at most
//   [data-transcript]  scrolls along with an answer until the reader scrolls up
//   [data-entry]       the form to sign in or up: a refusal, which comes with a new page, leaves all but the password
//   [data-suggest]     a button that asks its question
//   [data-toggle-nav], [data-close-nav]   the sidebar
//   dialog[data-modal] is modal as long as it exists; Escape presses its [data-cancel], and who opened it has the focus again

const DRAFT = "parley.draft:";
const SENT = "parley.sent";
const OWNER = "parley.owner";
const NAV = "parley.nav";
const ENTRY = "parley.entry";
const THREAD_HERE_MS = 1500; // By then a page that was opened, or connected again, shows its thread.
let installed = false;
let submissions = 0;

export function install() {
  if (installed) return;
  installed = true;
  entered = JSON.parse(sessionStorage.getItem(ENTRY) ?? "{}");
  sessionStorage.removeItem(ENTRY);
  listen("input", (event) => event.target.closest("[data-composer]") && noteDraft());
  listen("keydown", onKey);
  listen("submit", onSubmit);
  listen("click", onClick);
  listen("cancel", onCancel);
  listen("scroll", onScroll, { passive: true });
  listen("wheel", (event) => event.deltaY < 0 && loosen(event), { passive: true });
  listen("touchmove", loosen, { passive: true });
  new MutationObserver(onChange).observe(document.body, { childList: true, subtree: true, characterData: true });
  window.addEventListener("resize", () => grow());
  window.parley = { accepted, giveBack };
  document.documentElement.dataset.nav = localStorage.getItem(NAV) ?? "open";
  onChange();
}

// Window and capture: before React, which listens on the document.
const listen = (name, handler, options = {}) => window.addEventListener(name, handler, { capture: true, ...options });
const find = (selector) => document.querySelector(selector);
const composer = () => find("[data-composer] textarea");
const narrow = () => matchMedia("(max-width: 760px)").matches;

// The composer ------------------------------------------------------------------------------------------------------

function grow(box = composer()) {
  if (!box) return;
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, innerHeight * 0.4)}px`;
  setSend();
}

function setSend() {
  const send = find("[data-send]");
  const idle = !composer()?.value.trim();
  if (send && send.disabled !== idle) send.disabled = idle;
}

function noteDraft() {
  const box = composer();
  if (box.value) sessionStorage.setItem(DRAFT + location.pathname, box.value);
  else sessionStorage.removeItem(DRAFT + location.pathname);
  grow(box);
}

function fill(text) {
  const box = composer();
  if (!box) return;
  box.value = text;
  noteDraft();
}

// What one person typed is for nobody else. Whose session merely ended finds it again after signing in.
function keepFor(person) {
  if (!person || sessionStorage.getItem(OWNER) === person) return;
  for (const key of Object.keys(sessionStorage)) {
    if (key === SENT || key.startsWith(DRAFT)) sessionStorage.removeItem(key);
  }
  sessionStorage.setItem(OWNER, person);
}

function restoreDraft(pathname) {
  const box = composer();
  if (!box) return;
  box.value = sessionStorage.getItem(DRAFT + pathname) ?? "";
  grow(box);
  if (!narrow()) box.focus({ preventScroll: true });
}

// The address changed. A new chat that got its own takes along what was typed meanwhile.
export function moved(from, to) {
  if (from === to) return;
  if (from === "/" && to === `/c/${find("[data-transcript]")?.dataset.thread}`) {
    sessionStorage.removeItem(DRAFT + from);
    if (composer()) noteDraft();
  } else restoreDraft(to);
}

function onKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (!event.target.matches?.("[data-composer] textarea")) return;
  if (narrow() && matchMedia("(pointer: coarse)").matches) return; // On a phone Enter is a new line.
  event.preventDefault();
  event.target.form.requestSubmit();
}

function onSubmit(event) {
  if (event.target.matches?.("[data-sign-out]")) keepFor("nobody");
  if (event.target.matches?.("[data-entry]")) noteEntry(event.target);
  if (!event.target.matches?.("[data-composer]")) return;
  const box = composer();
  if (!box.value.trim() || find("[data-busy]") || find("[data-offline]") || isTooLong(event.target, box.value)) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  sessionStorage.setItem(SENT, box.value);
  submissions += 1;
  sessionStorage.removeItem(DRAFT + location.pathname);
  pinned = true;
  setTimeout(() => { box.value = ""; grow(box); }); // After React has read it.
}

// The socket takes no message that is much longer than a question may be, so one that is too long stays here.
function isTooLong(form, text) {
  const most = Number(form.dataset.most) || Infinity;
  const chars = text.length > most ? [...text].length : 0;
  const counted = (number) => number.toLocaleString("en");
  const words = `This message has ${counted(chars)} characters; at most ${counted(most)} are taken. Shorten it.`;
  window.dispatchEvent(new CustomEvent("parley:too-long", { detail: chars > most ? words : "" }));
  return chars > most;
}

function accepted() {
  sessionStorage.removeItem(SENT);
}

// The page was reloaded, or the connection lost, with a question on its way: once the thread is here, it arrived if the
// thread has it. A question that is sent meanwhile waits for its own answer from the server.
function settleSent() {
  const before = submissions;
  if (sessionStorage.getItem(SENT)) setTimeout(() => submissions === before && settle(), THREAD_HERE_MS);
}

function settle() {
  const sent = sessionStorage.getItem(SENT);
  if (!sent) return;
  const asked = [...document.querySelectorAll("[data-question]")].at(-1)?.textContent ?? "";
  if (asked.trim() === sent.trim()) accepted();
  else giveBack();
}

function giveBack() {
  const text = sessionStorage.getItem(SENT);
  accepted();
  if (text && composer()?.value === "") fill(text);
  else if (text && !composer()) sessionStorage.setItem(`${DRAFT}/`, text); // Its chat is gone: for a new one.
}

// Signing in and up -------------------------------------------------------------------------------------------------

let entered = {};
let knownForm = null;

// For the next page alone, and only in this tab: one that was let in forgets it at once.
function noteEntry(form) {
  const kept = [...form.querySelectorAll("input:not([type=hidden], [type=password])")];
  sessionStorage.setItem(ENTRY, JSON.stringify(Object.fromEntries(kept.map(({ name, value }) => [name, value]))));
}

function fillEntry(form) {
  for (const [name, value] of Object.entries(entered)) {
    if (form.elements[name] && !form.elements[name].value) form.elements[name].value = value;
  }
  if (entered.email) form.elements.password.focus();
}

// The transcript ----------------------------------------------------------------------------------------------------

let pinned = true;
let lastTop = 0;
let heightBefore = 0;

const toBottom = (view) => view.scrollHeight - view.scrollTop - view.clientHeight;

function onScroll(event) {
  const view = event.target;
  if (!view.matches?.("[data-transcript]")) return;
  if (view.scrollTop < lastTop - 2) pinned = toBottom(view) < 4;
  else if (toBottom(view) < 24) pinned = true;
  lastTop = view.scrollTop;
  showJump(view);
}

function loosen(event) {
  const view = event.target.closest?.("[data-transcript]");
  if (view && view.scrollHeight > view.clientHeight + 4 && toBottom(view) > 4) pinned = false;
  else if (view && view.scrollTop > 0 && event.type === "wheel") pinned = false;
}

function setTitle() {
  const thread = find(".threads [aria-current=page]")?.title;
  const title = thread ? `${thread} · Parley` : "Parley";
  if (document.title !== title) document.title = title;
}

function showJump(view) {
  find("[data-jump]")?.toggleAttribute("data-shown", !pinned && toBottom(view) > 120);
}

let pending = false;
let offline = false;
let knownBox = null;
let knownThread = null;
let opener = null;

function onChange() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    if (offline !== Boolean(find("[data-offline]"))) {
      offline = !offline;
      if (!offline) settleSent();
    }
    const form = find("[data-entry]");
    if (form && form !== knownForm) fillEntry(knownForm = form);
    for (const dialog of document.querySelectorAll("dialog[data-modal]:not([open])")) {
      opener ??= document.activeElement;
      dialog.showModal();
    }
    if (opener && !find("dialog[data-modal]")) {
      if (document.activeElement === document.body) opener.focus(); // React took the dialog away: the browser would not.
      opener = null;
    }
    const box = composer();
    if (box && box !== knownBox) {
      knownBox = box;
      pinned = true;
      keepFor(box.form.dataset.for);
      restoreDraft(location.pathname);
      settleSent();
    }
    if (box) setTitle();
    setSend(); // React puts a new button in place when an answer ends.
    const view = find("[data-transcript]");
    if (!view) return;
    if (view.dataset.thread !== knownThread) { knownThread = view.dataset.thread; pinned = true; }
    if (heightBefore && view.scrollHeight !== heightBefore) {
      view.scrollTop += view.scrollHeight - heightBefore; // Earlier messages came in above.
      heightBefore = 0;
    } else if (pinned) view.scrollTop = view.scrollHeight;
    lastTop = view.scrollTop;
    showJump(view);
  });
}

// Everything that is clicked ----------------------------------------------------------------------------------------

function onClick(event) {
  const target = event.target.closest?.("[data-suggest], [data-toggle-nav], [data-close-nav], [data-jump], [data-earlier]");
  if (!target) return;
  const data = target.dataset;
  if ("suggest" in data) {
    fill(data.suggest);
    composer()?.form.requestSubmit();
  } else if ("toggleNav" in data) {
    setNav(document.documentElement.dataset.nav === (narrow() ? "drawer" : "open") ? "closed" : narrow() ? "drawer" : "open");
  } else if ("closeNav" in data) {
    if (narrow()) setNav("closed");
  } else if ("jump" in data) {
    pinned = true;
    onChange();
  } else if ("earlier" in data) {
    pinned = false;
    heightBefore = find("[data-transcript]").scrollHeight;
  }
}

function setNav(state) {
  document.documentElement.dataset.nav = state;
  if (!narrow()) localStorage.setItem(NAV, state);
  if (state === "drawer") find("aside[data-nav] a")?.focus();
}

function onCancel(event) {
  if (!event.target.matches?.("dialog[data-modal]")) return;
  event.preventDefault();
  event.target.querySelector("[data-cancel]").click();
}

// Copying -----------------------------------------------------------------------------------------------------------

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No permission, or a page over plain http: the old way.
    const area = Object.assign(document.createElement("textarea"), { value: text, ariaHidden: "true" });
    area.style.cssText = "position:fixed;opacity:0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
