// A list of things picked by name from what a model has, each with settings of its own.

import { $, element, fill } from "./elements.js";

/** The list at `#<name>` (where to pick) and `#chosen-<name>` (what was picked). */
export class Additions {
  /** `invitation`: what the picker says; `parts(name)`: the elements that a picked one consists of. */
  constructor(name, invitation, parts, atMost) {
    Object.assign(this, { picker: $(name), list: $(`chosen-${name}`), invitation, parts, atMost });
    this.names = [];
    this.picker.addEventListener("change", () => this.add(this.picker.value));
  }

  get chosen() {
    return [...this.list.children];
  }

  /** Offer `names`, but for those chosen already; what is no more to be had goes. */
  offer(names) {
    this.names = names;
    for (const one of this.chosen) if (!names.includes(one.dataset.name)) one.remove();
    const taken = this.chosen.map((one) => one.dataset.name);
    const free = names.filter((name) => !taken.includes(name));
    fill(this.picker, [["", this.invitation], ...free.map((name) => [name, name])]);
    this.picker.value = "";
    this.picker.disabled = free.length === 0 || taken.length >= this.atMost;
  }

  add(name) {
    const one = element("div", { className: "addition" },
      element("b", { textContent: name }),
      element("button", { type: "button", className: "small", textContent: "Remove",
        ariaLabel: `Remove ${name}`, onclick: () => this.remove(one) }),
      ...this.parts(name));
    one.dataset.name = name;
    this.list.append(one);
    this.offer(this.names);
    one.querySelector("input").focus();
  }

  remove(one) {
    one.remove();
    this.offer(this.names);
    this.picker.focus();
  }
}

/** A slider with its number beside it, as two elements. */
export function slider(label, min, max, value) {
  const number = element("output", { textContent: value.toFixed(2) });
  const input = element("input", { type: "range", min, max, step: 0.05, value, ariaLabel: label,
    oninput: () => { number.textContent = Number(input.value).toFixed(2); } });
  input.dataset.part = "weight";
  return [input, number];
}

/** The element of an addition that holds a part of it, such as its weight. */
export const part = (one, name) => one.querySelector(`[data-part="${name}"]`);
