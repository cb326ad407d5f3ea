// Pickers of a class by name or number, with a search.

import { element } from "../base/dom.js";
import { text } from "../strings.js";

const MOST_SHOWN = 60;
let pickers = 0;

export const className = (card, index) => card.class_names[index] ?? text.class_number(index);

/** A text field that lists the classes whose name or number has the text in it. Holds the number of a class. */
export class ClassPicker {
  constructor(input, card, onchange) {
    Object.assign(this, { input, card, onchange, active: -1, value: 0 });
    this.list = element("ul", { className: "options", role: "listbox", id: `classes-${pickers++}`, hidden: true,
      ariaLabel: text.fields.class_id });
    input.after(this.list);
    input.autocomplete = "off";
    for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list",
      "aria-expanded": "false", "aria-controls": this.list.id })) input.setAttribute(name, value);
    input.addEventListener("focus", () => input.select());
    input.addEventListener("input", () => this.search());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => this.commit());
    this.list.addEventListener("pointerdown", (event) => {
      event.preventDefault();  // the field keeps the focus
      const option = event.target.closest("[role=option][data-index]");
      if (option) this.choose(Number(option.dataset.index));
    });
  }

  /** Choose a class. */
  choose(index) {
    const changed = index !== this.value;
    this.value = index;
    this.input.value = this.card().class_names[index] ?? String(index);
    this.close();
    if (changed) this.onchange(index);
  }

  search() {
    const wanted = this.input.value.trim().toLowerCase(), card = this.card();
    const found = [];
    for (let index = 0; index < card.classes && found.length < MOST_SHOWN; index += 1) {
      const name = (card.class_names[index] ?? "").toLowerCase();
      if (name.includes(wanted) || String(index).startsWith(wanted)) found.push(index);
    }
    this.active = found.length ? 0 : -1;
    this.list.replaceChildren(...(found.length ? found.map((index, place) => element("li",
      { role: "option", id: `${this.list.id}-${index}`, data: { index }, ariaSelected: String(place === 0) },
      element("span", { textContent: className(card, index) }),
      element("span", { className: "muted", textContent: String(index) })))
      : [element("li", { role: "option", className: "muted", ariaDisabled: "true", textContent: text.no_match })]));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.mark();
  }

  key(event) {
    const options = [...this.list.querySelectorAll("[data-index]")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (this.list.hidden) return this.search();
      this.active = Math.min(Math.max(this.active + step, 0), options.length - 1);
      this.mark();
    } else if (event.key === "Enter" && !this.list.hidden) {
      event.preventDefault();
      if (options[this.active]) this.choose(Number(options[this.active].dataset.index));
    } else if (event.key === "Escape" && !this.list.hidden) {
      event.stopPropagation();
      this.choose(this.value);
    }
  }

  mark() {
    const options = [...this.list.querySelectorAll("[data-index]")];
    options.forEach((option, place) => { option.ariaSelected = String(place === this.active); });
    options[this.active]?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", options[this.active]?.id ?? "");
  }

  /** Take what was typed if it is a number or the whole name of a class, else what was chosen before. */
  commit() {
    const typed = this.input.value.trim(), names = this.card()?.class_names ?? [];
    const index = /^\d+$/.test(typed) ? Number(typed) : names.indexOf(typed);
    if (this.card()) this.choose(index >= 0 ? index : this.value);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}
