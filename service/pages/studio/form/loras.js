// LoRAs with their weights, and buttons for the textual inversion embeddings of a model.

import { $, element, hasChanged } from "../base/dom.js";
import { text } from "../strings.js";
import { ExtraNetworkList, fieldOf, weightSlider } from "./extra_networks.js";
import { resetSettingsOf, setSettingsOf } from "./lora_settings.js";
import { card } from "./models.js";

const MAX_LORAS = 8;

const list = new ExtraNetworkList("loras", text.add_lora, fields, MAX_LORAS,
  { chosen: setSettingsOf, removed: resetSettingsOf });

export const showLoras = ({ loras }) => list.update(loras);

/** Return the selected LoRAs as the API takes them. */
export const selectedLoras = () => list.selected.map((entry) => ({
  name: entry.dataset.name, weight: Number(fieldOf(entry, "weight").value), ...JSON.parse(entry.dataset.others),
}));

/** Select LoRAs as the API takes them; those that the model does not have are left out. */
export function setLoras(loras) {
  list.clear();
  for (const { name, weight = 1, ...others } of loras) {
    if (list.names.includes(name)) list.add(name, { weight }, others);
  }
}

function fields(name) {
  const info = card()?.lora_info.find((each) => each.name === name);
  const parts = weightSlider(text.weight_of(name), -1, 2, 1);
  if (info?.trigger_words) {
    parts.push(element("button", { type: "button", className: "small wide", title: text.trigger_words,
      textContent: info.trigger_words, onclick: () => insert(info.trigger_words) }));
  }
  if (info?.preview) parts.push(element("img", { className: "wide lora-preview", src: info.preview, alt: name }));
  return parts;
}

/** Show a button for each embedding, which inserts its name at the cursor of the prompt. */
export function showEmbeddings({ embeddings }) {
  if (!hasChanged($("embeddings"), embeddings)) return;  // a focused button stays
  $("embeddings").hidden = embeddings.length === 0;
  $("embeddings").replaceChildren(...embeddings.map((name) => element("button", {
    type: "button", className: "small", textContent: name, onclick: () => insert(name) })));
}

function insert(words) {
  const prompt = $("prompt");
  const { value, selectionStart: from, selectionEnd: to } = prompt;
  const before = from > 0 && !/\s$/.test(value.slice(0, from)) ? " " : "";
  const after = to < value.length && !/^[\s,.]/.test(value.slice(to)) ? " " : "";
  prompt.setRangeText(before + words + after, from, to, "end");
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
  prompt.focus();
}
