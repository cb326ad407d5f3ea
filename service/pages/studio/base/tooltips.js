// A tooltip for each field of the API: its description in /openapi.json for the selected task.

import { requestJson } from "../api.js";
import { $, element } from "./dom.js";

const DELAY_MS = 500;
const NOT_HERE = /^Not for this task/;
let descriptions = null;  // a promise of them, by task, then by field
let shownFor = null, timer = null;

/** Show the descriptions at the fields of the form, on hover and focus. */
export function startTooltips(form, task) {
  form.addEventListener("pointerover", ({ target, pointerType }) => {
    if (pointerType === "mouse") later(target, task);
  });
  form.addEventListener("pointerleave", hide);
  form.addEventListener("focusin", ({ target }) => { if (target.matches(":focus-visible")) later(target, task); });
  form.addEventListener("focusout", hide);
  form.addEventListener("input", hide);
  document.addEventListener("keydown", ({ key }) => { if (key === "Escape") hide(); });
  document.addEventListener("scroll", () => { if ($("tooltip")?.hidden === false) hide(); }, true);
}

/** Load the descriptions once; without them there is no tooltip, and the next one tries again. */
export function loadDescriptions() {
  descriptions ??= requestJson("/openapi.json").then(read).catch(() => { descriptions = null; return {}; });
  return descriptions;
}

function read({ paths, components: { schemas } }) {
  const found = {};
  for (const [path, { post }] of Object.entries(paths)) {
    const form = path.startsWith("/v1/") && post?.requestBody?.content["multipart/form-data"]?.schema;
    if (!form) continue;
    const { properties = {} } = form.$ref ? schemas[form.$ref.split("/").pop()] : form;
    found[path.slice(4)] = Object.fromEntries(
      Object.entries(properties).map(([name, { description }]) => [name, description ?? ""]));
  }
  return found;
}

function later(target, task) {
  const setting = target.closest("[data-help]");
  if (setting === shownFor) return;
  hide();
  if (!setting) return;
  shownFor = setting;
  timer = setTimeout(() => show(setting, task()), DELAY_MS);
}

async function show(setting, task) {
  const description = (await loadDescriptions())[task]?.[setting.dataset.help];
  if (setting !== shownFor || !description || NOT_HERE.test(description)) return;
  const tooltip = $("tooltip") ?? document.body.appendChild(element("div", { id: "tooltip", role: "tooltip" }));
  tooltip.textContent = description;
  tooltip.hidden = false;
  const field = setting.querySelector("input, select, textarea");
  field?.setAttribute("aria-describedby", "tooltip");
  const box = setting.getBoundingClientRect(), own = tooltip.getBoundingClientRect();
  const below = box.bottom + 6 + own.height < innerHeight;
  tooltip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - own.width - 8))}px`;
  tooltip.style.top = `${below ? box.bottom + 6 : Math.max(8, box.top - own.height - 6)}px`;
}

function hide() {
  clearTimeout(timer);
  if ($("tooltip")) $("tooltip").hidden = true;
  const field = shownFor?.querySelector('[aria-describedby="tooltip"]');
  field?.removeAttribute("aria-describedby");
  shownFor = null;
}
