// Loaded with the first code block. highlight.js escapes what it is given, so its answer is safe as HTML.
import hljs from "highlight.js/lib/common";

export function highlight(language, text) {
  const known = hljs.getLanguage(language);
  return known ? hljs.highlight(text, { language, ignoreIllegals: true }).value : "";
}
