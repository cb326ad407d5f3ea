// A request as lines for a shell, Python or JavaScript, which write the same files.

export const LANGUAGES = { curl: "curl", python: "Python", javascript: "JavaScript" };
const WRITERS = { curl, python, javascript };
// The methods of the clients: their name in Python, in JavaScript, and the fields that come first.
const METHODS = {
  txt2img: ["generate", "generate", "prompt"],
  img2img: ["img2img", "imageToImage", "prompt", "image"],
  inpaint: ["inpaint", "inpaint", "prompt", "image", "mask"],
  outpaint: ["outpaint", "outpaint", "prompt", "image"],
  upscale: ["upscale", "upscale", "image"],
  unconditional: ["unconditional", "unconditional"],
  class: ["class_to_image", "classToImage", "class_id"],
  layout: ["layout_to_image", "layoutToImage", "boxes"],
  semantic: ["semantic_to_image", "semanticToImage", "image"],
};
const LOCAL_KEY = "DARKROOM_API_KEY";

/**
 * Return a request as text. `fields` has the fields of the API without files, `files` the name of
 * each file by its field, such as `{ image: "in.png", "controls.0.image": "edges.png" }`. With
 * `needsKey` the API key is read from DARKROOM_API_KEY.
 */
export function snippet(language, { url, task, fields, files = {}, needsKey = false }) {
  const { previews, response, cancel_on_disconnect, ...kept } = fields;
  const given = Object.entries(kept).filter(([, value]) => value !== undefined && value !== null);
  const base = url.replace(/\/+$/, "");
  return WRITERS[language]({ url: base, task, fields: Object.fromEntries(given), files, needsKey });
}

const endingOf = ({ output_format: format = "png" }) => (format === "jpeg" ? "jpg" : format);

/** Return one command for each image: an answer that is a file has one. */
function curl({ url, task, fields: { n = 1, ...fields }, files, needsKey }) {
  const several = n > 1;
  const ending = endingOf(fields);
  const { output_format: format = "png" } = fields;
  const seeded = several && fields.seed >= 0;
  const body = Object.keys(files).length > 0
    ? formOf(fields, files, seeded) : jsonOf(fields, seeded);
  const command = [
    `curl --fail-with-body ${quoted(`${url}/v1/${task}`)}`,
    `-H 'Accept: image/${format}'`,
    ...(needsKey ? [`-H "Authorization: Bearer $${LOCAL_KEY}"`] : []),
    ...body,
    `-o ${several ? `out-$number.${ending}` : `out.${ending}`}`,
  ].join(" \\\n  ");
  if (!several) return `${command}\n`;
  const numbers = Array.from({ length: n }, (_, index) => index + 1).join(" ");
  const seed = seeded ? `  seed=$((${fields.seed} + number - 1))\n` : "";
  return `for number in ${numbers}; do\n${seed}  ${command}\ndone\n`;
}

function jsonOf(fields, seeded) {
  const text = quoted(JSON.stringify(fields));
  const body = seeded ? text.replace(`"seed":${fields.seed}`, `"seed":'$seed'`) : text;
  return ["-H 'Content-Type: application/json'", `-d ${body}`];
}

function formOf(fields, files, seeded) {
  const texts = Object.entries(fields).map(([name, value]) => {
    if (name === "seed" && seeded) return "--form-string seed=$seed";
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    return `--form-string ${quoted(`${name}=${text}`)}`;
  });
  const parts = Object.entries(files).map(([path, file]) => {
    const name = path.replace(/^controls\.(\d+)\.image$/, "control_image_$1");
    return `-F ${quoted(`${name}=@"${file.replace(/[\\"]/g, "\\$&")}"`)}`;
  });
  return [...texts, ...parts];
}

/** Return a text as one word of a shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function python({ url, task, fields, files }) {
  const [method, , ...first] = METHODS[task];
  const values = withFiles(fields, files, (file) => `Path(${JSON.stringify(file)})`);
  const given = argumentsOf(values, first, pythonLiteral);
  const named = Object.entries(given.rest).map(([name, value]) => `${name}=${pythonLiteral(value)}`);
  const imports = Object.keys(files).length > 0 ? "from pathlib import Path\n\n" : "";
  return `${imports}from darkroom_client import Client

with Client(${JSON.stringify(url)}) as client:  # reads the API key from ${LOCAL_KEY}
    result = client.${method}(${[...given.first, ...named].join(", ")})
    for number, image in enumerate(result.images, start=1):
        image.save(${fields.n > 1 ? "f" : ""}"${nameOf(fields, "{number}")}")
`;
}

function javascript({ url, task, fields, files }) {
  const [, method, ...first] = METHODS[task];
  const values = withFiles(fields, files, (file) => `await readFile(${JSON.stringify(file)})`);
  const given = argumentsOf(values, first, javascriptLiteral);
  const rest = Object.keys(given.rest).length > 0 ? [javascriptLiteral(given.rest)] : [];
  const reads = Object.keys(files).length > 0 ? "readFile, " : "";
  return `import { ${reads}writeFile } from "node:fs/promises";
import { Darkroom } from "./darkroom.mjs"; // curl -o darkroom.mjs ${url}/pages/darkroom.js

const darkroom = new Darkroom({ url: ${JSON.stringify(url)}, key: process.env.${LOCAL_KEY} });
const { images } = await darkroom.${method}(${[...given.first, ...rest].join(", ")});
for (const image of images) {
  await writeFile(\`${nameOf(fields, "${image.index + 1}")}\`, await image.bytes());
}
`;
}

const nameOf = (fields, number) => `${fields.n > 1 ? `out-${number}` : "out"}.${endingOf(fields)}`;

/** An expression in place of a value. */
class Code {
  constructor(text) { this.text = text; }
}

/** Return the fields with an expression at the place of each file. */
function withFiles(fields, files, read) {
  const values = structuredClone(fields);
  for (const [path, file] of Object.entries(files)) {
    const names = path.split(".");
    const parent = names.slice(0, -1).reduce((at, name) => at[name], values);
    parent[names.at(-1)] = new Code(read(file));
  }
  return values;
}

/** Separate the fields that come first in a call, as far as they are given, from the others. */
function argumentsOf(values, names, literal) {
  const missing = names.findIndex((name) => !(name in values));
  const leading = missing < 0 ? names : names.slice(0, missing);
  const rest = Object.entries(values).filter(([name]) => !leading.includes(name));
  return { first: leading.map((name) => literal(values[name])), rest: Object.fromEntries(rest) };
}

function pythonLiteral(value) {
  if (value instanceof Code) return value.text;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonLiteral(one)}`);
  return `{${items.join(", ")}}`;
}

function javascriptLiteral(value) {
  if (value instanceof Code) return value.text;
  if (Array.isArray(value)) return `[${value.map(javascriptLiteral).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([name, one]) => `${name}: ${javascriptLiteral(one)}`);
  return `{ ${items.join(", ")} }`;
}
