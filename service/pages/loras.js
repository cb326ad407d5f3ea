// LoRAs with their weights, and the words that a model has learned.

import { Additions, part, slider } from "./additions.js";
import { $, element, renewed } from "./elements.js";

const MOST = 8;

const additions = new Additions("loras", "Add a LoRA…", (name) => slider(`Weight of ${name}`, -1, 2, 1), MOST);

export const offerLoras = ({ loras }) => additions.offer(loras);

export const loras = () => additions.chosen.map((one) => (
  { name: one.dataset.name, weight: Number(part(one, "weight").value) }));

/** A button for each word; pressed, it is written where the prompt's cursor is. */
export function offerWords({ embeddings }) {
  if (!renewed($("learned"), embeddings)) return;  // a focused button stays
  $("learned").hidden = embeddings.length === 0;
  $("learned").replaceChildren(...embeddings.map((word) => element("button", {
    type: "button", className: "small", textContent: word, onclick: () => write(word) })));
}

function write(word) {
  const prompt = $("prompt");
  const { value, selectionStart: from, selectionEnd: to } = prompt;
  const before = from > 0 && !/\s$/.test(value.slice(0, from)) ? " " : "";
  const after = to < value.length && !/^[\s,.]/.test(value.slice(to)) ? " " : "";
  prompt.setRangeText(before + word + after, from, to, "end");
  prompt.focus();
}
