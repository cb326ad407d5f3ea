// The seed: random for each request, or kept.

import { $, setField } from "../base/dom.js";


export function buildSeed(lastSeed) {
  $("dice").addEventListener("click", () => setField($("seed"), crypto.getRandomValues(new Uint32Array(1))[0]));
  $("lock").addEventListener("click", () => setField($("seed"), $("seed").value === "" ? lastSeed() ?? "" : ""));
}

/** A seed that is filled in is kept; an empty field is a random one each time. */
export const showSeed = () => $("lock").setAttribute("aria-pressed", $("seed").value.trim() !== "");
