// Lists of extra networks (LoRAs, ControlNets), each entry with its own settings.

import { $, element, iconButton, setOptions } from "../base/dom.js";
import { text } from "../strings.js";

/** A menu at `#<name>` to add networks, and the list of the selected ones at `#selected-<name>`. */
export class ExtraNetworkList {
  /**
   * `placeholder`: the first option of the menu; `fields(name)`: the elements of an entry; `chosen(name)` and
   * `removed(name)` are called after the user has done so.
   */
  constructor(name, placeholder, fields, maximum, { chosen = () => {}, removed = () => {} } = {}) {
    Object.assign(this, { menu: $(name), list: $(`selected-${name}`), placeholder, fields, maximum, removed });
    this.names = [];
    this.menu.addEventListener("change", (event) => {
      event.stopPropagation();
      const { value } = this.menu;
      if (!value) return;
      this.add(value).querySelector("input").focus();
      chosen(value);
    });
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

  /** Add a network with the values of its fields; `others` are sent along unchanged. Returns its entry. */
  add(name, values = {}, others = {}) {
    const entry = element("div", { className: "extra-network", data: { name, others: JSON.stringify(others) } },
      element("b", { textContent: name }),
      iconButton("close", text.remove_name(name), () => this.remove(entry)),
      ...this.fields(name));
    for (const [field, value] of Object.entries(values)) {
      const input = fieldOf(entry, field);
      input.value = value;
      input.dispatchEvent(new Event("input"));
    }
    this.list.append(entry);
    this.update(this.names);
    return entry;
  }

  remove(entry) {
    entry.remove();
    this.update(this.names);
    this.menu.focus();
    this.removed(entry.dataset.name);
  }

  clear() {
    this.list.replaceChildren();
    this.update(this.names);
  }
}

/** Return a slider for the weight and the output that shows its value. */
export function weightSlider(label, min, max, value) {
  const output = element("output", { textContent: value.toFixed(2) });
  const input = element("input", { type: "range", min, max, step: 0.05, value, ariaLabel: label,
    data: { field: "weight" },
    oninput: () => { output.textContent = Number(input.value).toFixed(2); } });
  return [input, output];
}

/** Return the element of an entry that holds a field, such as "weight". */
export const fieldOf = (entry, name) => entry.querySelector(`[data-field="${name}"]`);
