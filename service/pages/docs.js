// The API reference, rendered from /openapi.json.

import { element } from "./elements.js";
import { urlOf } from "./urls.js";

let api = {};
let schemas = {};

const refName = (schema) => schema && schema.$ref && schema.$ref.split("/").pop();

/** Return the component that a reference names, else the object itself. */
const resolved = (object) => object.$ref
  ? object.$ref.split("/").slice(1).reduce((parent, name) => parent[name], api) : object;

/** Return whether a field is for other tasks: it may only be null or empty. */
const isUnused = (field) => (field.anyOf || [field]).every(({ type, const: value }) => type === "null" || value === "");

/** Return the type of a schema as text, with a link if it is a named schema. */
function typeOf(schema) {
  if (!schema) return document.createTextNode("");
  const name = refName(schema);
  if (name && schemas[name].enum) return document.createTextNode(schemas[name].enum.join(" | "));
  if (name) return element("a", { href: `#${name}`, textContent: name });
  const kinds = schema.anyOf || schema.oneOf;
  if (kinds) return alternatives(kinds.filter(({ type }) => type !== "null"));
  if (schema.type === "array") return element("span", {}, "list of ", typeOf(schema.items));
  const kind = schema.contentEncoding || schema.format || schema.contentMediaType;
  return document.createTextNode((schema.type || "any") + (kind ? ` (${kind})` : ""));
}

function alternatives(schemas) {
  return element("span", {}, ...schemas.flatMap((one, index) => index ? [" or ", typeOf(one)] : [typeOf(one)]));
}

/** Return the bounds of a field as text. */
function bounds(schema) {
  const inner = (schema.anyOf || [schema]).find(({ type }) => type !== "null") || schema;
  const texts = [
    ["minimum", "at least"], ["exclusiveMinimum", "above"], ["maximum", "at most"],
    ["exclusiveMaximum", "below"], ["maxLength", "characters at most"], ["pattern", "form"],
  ].filter(([key]) => key in inner).map(([key, text]) => `${text} ${inner[key]}`);
  if (schema.default !== undefined && schema.default !== null) texts.push(`default ${JSON.stringify(schema.default)}`);
  return texts.join(", ");
}

function fields(schema) {
  const required = schema.required || [];
  const used = Object.entries(schema.properties || {}).filter(([, field]) => !isUnused(field));
  const rows = used.map(([name, field]) => element("tr", {},
    element("td", {}, element("code", { textContent: name }), required.includes(name) ? " *" : ""),
    element("td", {}, typeOf(field)),
    element("td", {}, field.description || "", element("div", { className: "muted", textContent: bounds(field) }))));
  return element("div", { className: "scroll" }, element("table", {}, ...rows));
}

function contents(content) {
  return Object.entries(content || {}).map(([mediaType, { schema }]) =>
    element("div", {}, element("code", { textContent: `${mediaType} ` }), schema ? typeOf(schema) : ""));
}

function operation(path, method, { description, parameters, requestBody, responses }) {
  const parts = [element("p", { textContent: description || "" })];
  if (parameters) {
    const found = parameters.map(resolved);
    const properties = Object.fromEntries(found.map((p) => [p.name, { ...p.schema, description: p.description }]));
    const required = found.filter((p) => p.required).map((p) => p.name);
    parts.push(element("h3", { textContent: "Parameters" }), fields({ properties, required }));
  }
  if (requestBody) parts.push(element("h3", { textContent: "Body" }), ...contents(requestBody.content));
  const rows = Object.entries(responses).map(([status, response]) => element("tr", {},
    element("td", { textContent: status }), element("td", { textContent: response.description }),
    element("td", {}, ...contents(resolved(response).content))));
  parts.push(element("h3", { textContent: "Responses" }), element("div", { className: "scroll" }, element("table", {}, ...rows)));
  return element("details", {}, element("summary", {},
    element("code", {}, element("span", { className: "method", textContent: method.toUpperCase() }), path)), ...parts);
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) { target.open = true; target.scrollIntoView(); }
}

async function main() {
  api = await (await fetch(urlOf("/openapi.json"))).json();
  schemas = api.components.schemas;
  document.getElementById("about").textContent = api.info.description;
  const groups = {};
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, details] of Object.entries(methods))
      (groups[(details.tags || ["other"])[0]] ||= []).push(operation(path, method, details));
  const parts = Object.entries(groups).flatMap(([tag, list]) => [element("h2", { textContent: tag }), ...list]);
  const schemaDetails = Object.entries(schemas).filter(([, schema]) => schema.properties).map(([name, schema]) =>
    element("details", { id: name }, element("summary", {}, element("code", { textContent: name })),
      element("p", { textContent: schema.description || "" }), fields(schema)));
  document.getElementById("main").replaceChildren(...parts, element("h2", { textContent: "Schemas" }), ...schemaDetails);
  addEventListener("hashchange", openTarget);
  openTarget();
}
main();
