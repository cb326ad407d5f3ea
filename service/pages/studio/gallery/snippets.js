// A request as lines for a shell, for Python and for JavaScript, which give the same bytes.

import { urlOf } from "../api.js";

const FILE_NAME = { "image/jpeg": "jpg", "image/webp": "webp", "image/avif": "avif" };

/** Return the files of a request, under the names that the lines use: [name, blob]. */
export const namedFiles = ({ files }) =>
  Object.entries(files).map(([field, blob]) => [`${field}.${FILE_NAME[blob.type] ?? "png"}`, blob]);

/** Return the lines of a record: format "curl", "python" or "javascript". */
export function snippet(record, format) {
  const { format: type, task, fields } = record;
  const request = {
    url: String(urlOf(`/v1/${task}`)), accept: `image/${type}`, output: `image.${type === "jpeg" ? "jpg" : type}`,
    fields, files: namedFiles(record).map(([name], index) => [Object.keys(record.files)[index], name]),
    key: Boolean(sessionStorage.getItem("key")),
  };
  return { curl, python, javascript }[format](request);
}

const asText = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

/** Quote a text for a POSIX shell. */
const shell = (value) => `'${value.replaceAll("'", "'\\''")}'`;

function curl({ url, accept, output, fields, files, key }) {
  const lines = [`curl ${shell(url)}`, `-H 'Accept: ${accept}'`];
  if (key) lines.push('-H "Authorization: Bearer $DARKROOM_API_KEY"');
  if (files.length === 0) lines.push("-H 'Content-Type: application/json'", `-d ${shell(JSON.stringify(fields))}`);
  else {
    // --form-string: a value may begin with @ or <, which -F would read as the name of a file.
    for (const [name, value] of Object.entries(fields)) lines.push(`--form-string ${shell(`${name}=${asText(value)}`)}`);
    for (const [field, name] of files) lines.push(`-F '${field}=@${name}'`);
  }
  return `${[...lines, `-o ${output}`].join(" \\\n  ")}\n`;
}

/** Return a JSON value as a literal of Python. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

function python({ url, accept, output, fields, files, key }) {
  const isForm = files.length > 0;
  const lines = Object.entries(fields).map(([name, value]) =>
    `    ${JSON.stringify(name)}: ${isForm ? JSON.stringify(asText(value)) : literal(value)},`);
  const headers = `{"Accept": "${accept}"${key ? ', "Authorization": f"Bearer {os.environ[\'DARKROOM_API_KEY\']}"' : ""}}`;
  const body = isForm
    ? `data=fields, files={${files.map(([field, name]) => `"${field}": open("${name}", "rb")`).join(", ")}}`
    : "json=fields";
  return [
    ...(key ? ["import os", ""] : []),
    "import httpx", "",
    "fields = {", ...lines, "}",
    `response = httpx.post("${url}", headers=${headers}, ${body}, timeout=None)`,
    "response.raise_for_status()",
    `open("${output}", "wb").write(response.content)`, "",
  ].join("\n");
}

function javascript({ url, accept, output, fields, files, key }) {
  const headers = [`Accept: "${accept}"`, key && "Authorization: `Bearer ${process.env.DARKROOM_API_KEY}`",
    files.length === 0 && '"Content-Type": "application/json"'].filter(Boolean).join(", ");
  const body = files.length === 0 ? ["const body = JSON.stringify(fields);"] : [
    "const body = new FormData();",
    "for (const [name, value] of Object.entries(fields)) {",
    '  body.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));',
    "}",
    ...files.map(([field, name]) => `body.append("${field}", await openAsBlob("${name}"), "${name}");`),
  ];
  return [
    `import { ${files.length ? "openAsBlob, " : ""}writeFileSync } from "node:fs";`, "",
    `const fields = ${JSON.stringify(fields, null, 2)};`,
    ...body,
    `const response = await fetch("${url}", { method: "POST", headers: { ${headers} }, body });`,
    "if (!response.ok) throw new Error(await response.text());",
    `writeFileSync("${output}", Buffer.from(await response.arrayBuffer()));`, "",
  ].join("\n");
}
