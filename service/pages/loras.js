// LoRAs with their weights, and buttons for the textual inversion embeddings of a model.

import { $, element, hasChanged } from "./elements.js";
import { ExtraNetworkList, fieldOf, weightSlider } from "./extra_networks.js";

const MAX_LORAS = 8;

const list = new ExtraNetworkList("loras", "Add a LoRA…",
  (name) => weightSlider(`Weight of ${name}`, -1, 2, 1), MAX_LORAS);

export const showLoras = ({ loras }) => list.update(loras);

export const selectedLoras = () => list.selected.map((entry) => (
  { name: entry.dataset.name, weight: Number(fieldOf(entry, "weight").value) }));

/** Show a button for each embedding, which inserts its name at the cursor of the prompt. */
export function showEmbeddings({ embeddings }) {
  if (!hasChanged($("embeddings"), embeddings)) return;  // a focused button stays
  $("embeddings").hidden = embeddings.length === 0;
  $("embeddings").replaceChildren(...embeddings.map((name) => element("button", {
    type: "button", className: "small", textContent: name, onclick: () => insert(name) })));
}

function insert(text) {
  const prompt = $("prompt");
  const { value, selectionStart: from, selectionEnd: to } = prompt;
  const before = from > 0 && !/\s$/.test(value.slice(0, from)) ? " " : "";
  const after = to < value.length && !/^[\s,.]/.test(value.slice(to)) ? " " : "";
  prompt.setRangeText(before + text + after, from, to, "end");
  prompt.focus();
}
