// Loaded with the first code block. highlight.js escapes what it highlights, so its result is safe as HTML.
import hljs from "highlight.js/lib/common";

export function highlight(language, text) {
  const known = hljs.getLanguage(language);
  return known ? hljs.highlight(text, { language, ignoreIllegals: true }).value : "";
}
