// The tabs of the tasks; those that the selected model has are shown.

import { element } from "../base/dom.js";
import { text } from "../strings.js";

const FIRST = "txt2img";

export function buildTabs(place) {
  for (const [value, label] of Object.entries(text.tasks)) {
    place.append(element("label", { hidden: value !== FIRST },
      element("input", { type: "radio", name: "task", value, checked: value === FIRST }),
      element("span", { textContent: label })));
  }
}
