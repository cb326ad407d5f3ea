// The status line, and error messages next to their fields.

import { $, element } from "../base/dom.js";
import { text } from "../strings.js";

const FIELDS = "input, select, textarea";
// Fields of the API whose element has another id.
const ELEMENT_IDS = { image: "file", mask: "file" };

export function showStatus(message, isError = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", isError);
}

/** Show an error in the status line, and next to its field if that is visible. */
export function showProblem(problem) {
  const detail = problem.message || problem.detail || text.went_wrong;
  showStatus(detail, true);
  const field = problem.field && elementOf(problem.field);
  if (!field || field.closest("[hidden]")) return;
  clearProblem();
  const note = element("p", { className: "problem wide", id: "problem", textContent: detail });
  field.after(note);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", note.id);
  for (let details = field.closest("details"); details; details = details.parentElement.closest("details")) {
    details.open = true;
  }
  field.focus();
  note.scrollIntoView({ block: "nearest" });
}

export function clearProblem() {
  $("problem")?.remove();
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

/** Return the element of a field such as "width" or "controls.0.weight" (of the first ControlNet). */
function elementOf(path) {
  const [name, index, part] = path.split(".");
  const entry = index && document.querySelectorAll(`#selected-${name} > .extra-network`)[index];
  if (entry) return entry.querySelector(`[data-field="${part}"]`) ?? entry.querySelector(FIELDS);
  const field = $(ELEMENT_IDS[name] ?? name);
  return field?.matches(FIELDS) ? field : null;
}
