// Lists of extra networks (LoRAs, ControlNets), each entry with its own settings.

import { $, element, setOptions } from "./elements.js";

/** A menu at `#<name>` to add networks, and the list of the selected ones at `#selected-<name>`. */
export class ExtraNetworkList {
  /** `placeholder`: the first option of the menu; `fields(name)`: the elements of an entry. */
  constructor(name, placeholder, fields, maximum) {
    Object.assign(this, { menu: $(name), list: $(`selected-${name}`), placeholder, fields, maximum });
    this.names = [];
    this.menu.addEventListener("change", () => this.add(this.menu.value));
  }

  get selected() {
    return [...this.list.children];
  }

  /** Offer `names` except the selected ones; remove selected ones that no longer exist. */
  update(names) {
    this.names = names;
    for (const entry of this.selected) if (!names.includes(entry.dataset.name)) entry.remove();
    const used = this.selected.map((entry) => entry.dataset.name);
    const free = names.filter((name) => !used.includes(name));
    setOptions(this.menu, [["", this.placeholder], ...free.map((name) => [name, name])]);
    this.menu.value = "";
    this.menu.disabled = free.length === 0 || used.length >= this.maximum;
  }

  add(name) {
    const entry = element("div", { className: "extra-network" },
      element("b", { textContent: name }),
      element("button", { type: "button", className: "small", textContent: "Remove",
        ariaLabel: `Remove ${name}`, onclick: () => this.remove(entry) }),
      ...this.fields(name));
    entry.dataset.name = name;
    this.list.append(entry);
    this.update(this.names);
    entry.querySelector("input").focus();
  }

  remove(entry) {
    entry.remove();
    this.update(this.names);
    this.menu.focus();
  }
}

/** Return a slider for the weight and the output that shows its value. */
export function weightSlider(label, min, max, value) {
  const output = element("output", { textContent: value.toFixed(2) });
  const input = element("input", { type: "range", min, max, step: 0.05, value, ariaLabel: label,
    oninput: () => { output.textContent = Number(input.value).toFixed(2); } });
  input.dataset.field = "weight";
  return [input, output];
}

/** Return the element of an entry that holds a field, such as "weight". */
export const fieldOf = (entry, name) => entry.querySelector(`[data-field="${name}"]`);
