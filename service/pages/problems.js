// What is told to a visitor: how things stand, and mistakes beside the field they were made in.

import { $, element } from "./elements.js";

const FIELDS = "input, select, textarea";
// Fields of the API that have another name here.
const CALLED = { image: "file", mask: "file" };

export function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

/** Tell a problem (RFC 9457), beside its field if that can be seen. */
export function complain(problem) {
  const detail = problem.detail || "Something went wrong.";
  say(detail, true);
  const field = problem.field && placeOf(problem.field);
  if (!field || field.closest("[hidden]")) return;
  const note = element("p", { className: "problem wide", id: "problem", textContent: detail });
  field.after(note);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", note.id);
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.focus();
  note.scrollIntoView({ block: "nearest" });
}

export function forgive() {
  $("problem")?.remove();
  for (const field of document.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

/** The element for a field, such as width, or controls.0.weight: of the first addition. */
function placeOf(path) {
  const [name, at, part] = path.split(".");
  const addition = at && document.querySelectorAll(`#chosen-${name} > .addition`)[at];
  if (addition) return addition.querySelector(`[data-part="${part}"]`) ?? addition.querySelector(FIELDS);
  const field = $(CALLED[name] ?? name);
  return field?.matches(FIELDS) ? field : null;
}
