// The parts of the page that live in the browser alone: Markdown, copying, and how the composer and the transcript
// behave. Everything else is Reflex. Nothing here talks to the server; it presses the page's own buttons.
import { createElement as h, memo, useEffect, useRef, useState } from "react";
import ReactMarkdown from "react-markdown";
import { useLocation } from "react-router";
import remarkGfm from "remark-gfm";
import { copyText, install, moved } from "./behaviour.js";

const MOST_HIGHLIGHTED = 60_000;

// An answer's block. Raw HTML in it stays text; a picture becomes a link, so that nothing remote is ever loaded.
export const Markdown = memo(function Markdown({ source, live = false }) {
  const components = live ? LIVE_COMPONENTS : COMPONENTS;
  return h(ReactMarkdown, { remarkPlugins: PLUGINS, components }, source);
});

const PLUGINS = [remarkGfm];
const OUTSIDE = { target: "_blank", rel: "noopener noreferrer nofollow" };

const shared = {
  a: ({ href, children }) => (href ? h("a", { href, ...OUTSIDE }, children) : h("span", {}, children)),
  img: ({ src, alt }) => h("a", { href: src || undefined, ...OUTSIDE, className: "picture" }, alt || "picture"),
  table: ({ children }) => h("div", { className: "table", tabIndex: 0 }, h("table", {}, children)),
};
const COMPONENTS = { ...shared, pre: (props) => h(Code, { ...read(props) }) };
const LIVE_COMPONENTS = { ...shared, pre: (props) => h(Code, { ...read(props), live: true }) };

// react-markdown renders <pre><code class="language-x">text</code></pre>.
function read({ children }) {
  const { className = "", children: text } = children?.props ?? {};
  return {
    language: /language-([^\s]+)/.exec(className)?.[1] ?? "",
    text: String(Array.isArray(text) ? text.join("") : (text ?? "")).replace(/\n$/, ""),
  };
}

// A code block. It is coloured once it is finished; the highlighter is loaded with the first one.
const Code = memo(function Code({ language, text, live = false }) {
  const [html, setHtml] = useState("");
  useEffect(() => {
    let current = true;
    setHtml("");
    if (!live && language && text.length <= MOST_HIGHLIGHTED) {
      import("./highlight.js").then(({ highlight }) => current && setHtml(highlight(language, text)));
    }
    return () => { current = false; };
  }, [language, text, live]);
  return h("figure", { className: "code", dir: "ltr" },
    h("figcaption", {}, h("span", {}, language || "text"), h(CopyButton, { text, label: "Copy code" })),
    h("pre", { tabIndex: 0 },
      html ? h("code", { dangerouslySetInnerHTML: { __html: html } }) : h("code", {}, text)));
});

// What is copied: a text as it is; of an answer's parts (state/live.py: whole ones, finished blocks, tail) the text
// alone, with a blank line where something stood between.
function copied(text) {
  if (!Array.isArray(text)) return text;
  const runs = [];
  let open = false;
  for (const part of text.flat()) {
    const piece = typeof part === "string" ? part : part.kind === "text" ? part.blocks.join("") : null;
    if (piece === null) open = false;
    else if (piece && open) runs[runs.length - 1] += piece;
    else if (piece) open = runs.push(piece) > 0;
  }
  return runs.length > 1 ? runs.map((run) => run.trim()).join("\n\n") : runs.join("");
}

// Copies `text` and says so for a moment.
export function CopyButton({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const timer = useRef();
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    setDone(await copyText(copied(text)));
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setDone(false), 1600);
  };
  if (!copied(text)) return null;
  return h("button", { type: "button", className: "quiet copy", "aria-label": done ? "Copied" : label,
    title: label, "data-copied": done || undefined, onClick: copy },
    h("svg", { viewBox: "0 0 24 24", "aria-hidden": true },
      done ? h("path", { d: "M5 12.5 10 17.5 19 7" })
        : [h("rect", { key: 1, x: 9, y: 9, width: 11, height: 11, rx: 2.5 }),
           h("path", { key: 2, d: "M15 9V6.5A2.5 2.5 0 0 0 12.5 4h-6A2.5 2.5 0 0 0 4 6.5v6A2.5 2.5 0 0 0 6.5 15H9" })]));
}

// What an event of the window said last.
function useSaid(name) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    const hear = ({ detail }) => setSaid(detail);
    window.addEventListener(name, hear);
    return () => window.removeEventListener(name, hear);
  }, [name]);
  return said;
}

// The key that was just made. The server tells it this once, and keeps it nowhere: not in the page's state either.
export function NewKey() {
  const said = useSaid("parley:key");
  if (!said) return null;
  const { key, name } = said;
  return h("div", { className: "new-key", role: "status" },
    h("p", {}, "This is your key ", h("strong", {}, name), ". Copy it now: it is not shown again."),
    h("div", { className: "secret" },
      h("code", { "data-new-key": "" }, key), h(CopyButton, { text: key, label: "Copy the key" })));
}

// The secret for an authenticator app, told this once. The picture is our own server's SVG of it.
export function NewFactor() {
  const said = useSaid("parley:factor");
  if (!said) return null;
  const { secret, picture } = said;
  return h("div", { className: "new-key new-factor" },
    h("p", {}, "Scan this with your authenticator app, or type the key into it."),
    h("div", { className: "picture-of-key", role: "img", "aria-label": "QR code of the key",
      dangerouslySetInnerHTML: { __html: picture } }),
    h("div", { className: "secret" },
      h("code", { "data-factor-secret": "" }, secret), h(CopyButton, { text: secret, label: "Copy the key" })));
}

// Recovery codes, told this once.
export function RecoveryCodes() {
  const codes = useSaid("parley:codes");
  if (!codes) return null;
  return h("div", { className: "new-key", role: "status" },
    h("p", {}, "These are your recovery codes. Each signs you in once without your phone. Keep them where the phone is"
      + " not: they are not shown again."),
    h("ul", { className: "codes" }, codes.map((code) => h("li", { key: code }, h("code", {}, code)))),
    h(CopyButton, { text: codes.join("\n"), label: "Copy the codes" }));
}

// Why a question was not sent: behaviour.js found it too long.
export function TooLong() {
  const words = useSaid("parley:too-long");
  return words ? h("p", { className: "trouble", role: "alert" }, words) : null;
}

// Mounted once on each page.
export function Behaviour() {
  const { pathname } = useLocation();
  useEffect(install, []);
  const before = useRef(pathname);
  useEffect(() => {
    moved(before.current, pathname);
    before.current = pathname;
  }, [pathname]);
  return null;
}
