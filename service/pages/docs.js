// The reference: /openapi.json in words.

import { element } from "./elements.js";

let schemas = {};

const named = (schema) => schema && schema.$ref && schema.$ref.split("/").pop();

/** A schema's type in words, with a link where it has a name. */
function typed(schema) {
  if (!schema) return document.createTextNode("");
  const name = named(schema);
  if (name && schemas[name].enum) return document.createTextNode(schemas[name].enum.join(" | "));
  if (name) return element("a", { href: `#${name}`, textContent: name });
  if (schema.anyOf) return several(schema.anyOf.filter((one) => one.type !== "null"));
  if (schema.type === "array") return element("span", {}, "list of ", typed(schema.items));
  const kind = schema.contentEncoding || schema.format;
  return document.createTextNode((schema.type || "any") + (kind ? ` (${kind})` : ""));
}

function several(choices) {
  return element("span", {}, ...choices.flatMap((one, at) => at ? [" or ", typed(one)] : [typed(one)]));
}

/** The bounds of a field, in words. */
function bounds(schema) {
  const inner = (schema.anyOf || [schema]).find((one) => one.type !== "null") || schema;
  const words = [
    ["minimum", "at least"], ["exclusiveMinimum", "above"], ["maximum", "at most"],
    ["exclusiveMaximum", "below"], ["maxLength", "characters at most"], ["pattern", "form"],
  ].filter(([key]) => key in inner).map(([key, word]) => `${word} ${inner[key]}`);
  if (schema.default !== undefined && schema.default !== null) words.push(`default ${JSON.stringify(schema.default)}`);
  return words.join(", ");
}

function fields(schema) {
  const required = schema.required || [];
  const rows = Object.entries(schema.properties || {}).map(([name, field]) => element("tr", {},
    element("td", {}, element("code", { textContent: name }), required.includes(name) ? " *" : ""),
    element("td", {}, typed(field)),
    element("td", {}, field.description || "", element("div", { className: "faint", textContent: bounds(field) }))));
  return element("div", { className: "scroll" }, element("table", {}, ...rows));
}

function contents(content) {
  return Object.entries(content || {}).map(([kind, { schema }]) =>
    element("div", {}, element("code", { textContent: `${kind} ` }), schema ? typed(schema) : ""));
}

function operation(path, method, described) {
  const parts = [element("p", { textContent: described.description || "" })];
  if (described.parameters) {
    const properties = Object.fromEntries(described.parameters.map((p) => [p.name, { ...p.schema, description: p.description }]));
    parts.push(element("h3", { textContent: "Parameters" }), fields({ properties, required: Object.keys(properties) }));
  }
  if (described.requestBody) parts.push(element("h3", { textContent: "Body" }), ...contents(described.requestBody.content));
  const rows = Object.entries(described.responses).map(([status, answer]) => element("tr", {},
    element("td", { textContent: status }), element("td", { textContent: answer.description }),
    element("td", {}, ...contents(answer.content))));
  parts.push(element("h3", { textContent: "Answers" }), element("div", { className: "scroll" }, element("table", {}, ...rows)));
  return element("details", {}, element("summary", {},
    element("code", {}, element("span", { className: "method", textContent: method.toUpperCase() }), path)), ...parts);
}

function openNamed() {
  const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted) { wanted.open = true; wanted.scrollIntoView(); }
}

async function main() {
  const api = await (await fetch("/openapi.json")).json();
  schemas = api.components.schemas;
  document.getElementById("about").textContent = api.info.description;
  const groups = {};
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, described] of Object.entries(methods))
      (groups[(described.tags || ["other"])[0]] ||= []).push(operation(path, method, described));
  const parts = Object.entries(groups).flatMap(([tag, list]) => [element("h2", { textContent: tag }), ...list]);
  const shapes = Object.entries(schemas).filter(([, schema]) => schema.properties).map(([name, schema]) =>
    element("details", { id: name }, element("summary", {}, element("code", { textContent: name })),
      element("p", { textContent: schema.description || "" }), fields(schema)));
  document.getElementById("main").replaceChildren(...parts, element("h2", { textContent: "Shapes" }), ...shapes);
  addEventListener("hashchange", openNamed);
  openNamed();
}
main();
