// Helpers to find, create and label elements.

import { text } from "../strings.js";

export const $ = (id) => document.getElementById(id);

export function element(name, properties, ...children) {
  const { data, ...others } = properties ?? {};
  const created = Object.assign(document.createElement(name), others);
  Object.assign(created.dataset, data);
  created.append(...children.filter((child) => child !== null && child !== undefined));
  return created;
}

/** Return an icon of the sprite in the page; the text beside it, or a label, says what it means. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Return a button with an icon; `label` is its name and tooltip. */
export const iconButton = (name, label, onclick, properties = {}) =>
  element("button", { type: "button", className: "icon-button", ariaLabel: label, title: label, onclick, ...properties },
    icon(name));

/** Return the text at a path such as "fields.prompt". */
const textAt = (path) => path.split(".").reduce((texts, key) => texts[key], text);

/** Fill in the texts that elements name: data-text, data-label, data-placeholder, data-title. */
export function fillTexts(root = document) {
  for (const each of root.querySelectorAll("[data-text]")) each.append(textAt(each.dataset.text));
  for (const each of root.querySelectorAll("[data-label]")) each.ariaLabel = textAt(each.dataset.label);
  for (const each of root.querySelectorAll("[data-title]")) each.title = textAt(each.dataset.title);
  for (const each of root.querySelectorAll("[data-placeholder]")) each.placeholder = textAt(each.dataset.placeholder);
}

/** Return true if `values` differ from those of the last call with this `holder`. */
export function hasChanged(holder, values) {
  const json = JSON.stringify(values);
  const same = holder.dataset.values === json;
  holder.dataset.values = json;
  return !same;
}

/** Set the options of a menu from [value, text] pairs. It keeps its value, else takes `preferred`. */
export function setOptions(select, options, preferred) {
  const before = select.value;
  if (!hasChanged(select, options)) return;  // an open menu stays open
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  const values = options.map(([value]) => value);
  select.value = values.includes(before) ? before : preferred ?? values[0];
}

/** Set a field as a user would: with the events that update the form. */
export function setField(field, value) {
  if (field.type === "checkbox") field.checked = Boolean(value);
  else field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Offer a blob for download as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
