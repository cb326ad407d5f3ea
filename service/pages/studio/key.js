// The API key: the form for it, and what it may do.

import { keepKey, keptKey, requestJson } from "./api.js";
import { $ } from "./base/dom.js";
import { text } from "./strings.js";

const NEEDED = ["generate", "read"];

/** Connect the form; `onKey` is called when a key has been entered. */
export function buildKeyForm(onKey) {
  $("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    keepKey($("key").value.trim());
    $("key-form").hidden = true;
    await showKey();
    onKey();
  });
  $("show-key").addEventListener("click", () => { $("key-form").hidden = !$("key-form").hidden; });
  if (keptKey()) showKey();
}

/** Say what the key may do, and keep the form open if that does not suffice for this page. */
async function showKey() {
  try {
    const key = await requestJson("/v1/key");
    $("key-about").textContent = about(key);
    $("key-about").hidden = $("show-key").hidden = false;
    $("key-form").hidden = key.scopes.includes("admin") || NEEDED.every((scope) => key.scopes.includes(scope));
  } catch {
    $("key-about").hidden = $("show-key").hidden = true;  // the next request shows what is wrong
  }
}

function about({ name, scopes, limits }) {
  const may = scopes.includes("admin") ? ["admin"] : scopes;
  const bounds = Object.entries(limits).map(([limit, value]) => text.key_limits[limit](value.toLocaleString("en")));
  return [
    text.key_may(name, may.map((scope) => text.key_scopes[scope]).join(", ")),
    bounds.length ? text.key_limited(bounds.join(", ")) : text.key_unlimited,
  ].join(" ");
}
