// Finished pictures with what comes beside them, and the recipes they were made by.

import { call } from "./calls.js";
import { $, element } from "./elements.js";
import { card, title } from "./models.js";
import { takeSource } from "./source.js";
import { choose } from "./tasks.js";

/** Hang the pictures of a finished job up, newest first; `recipe`: the settings sent. */
export async function hang({ id, result }, recipe) {
  const figures = await Promise.all(result.images.map((image) => figure(id, image, recipe)));
  $("empty").hidden = true;
  $("gallery").prepend(element("div", { className: "set" }, ...figures));
}

async function figure(id, image, recipe) {
  const place = `/v1/jobs/${id}/images/${image.index}`;
  const fetched = async (path) => (await call(path)).blob();
  const extras = image.extras ?? [];
  const [blob, ...others] = await Promise.all(
    [fetched(place), ...extras.map(({ kind }) => fetched(`${place}/${kind}`))]);
  const addresses = Object.fromEntries(extras.map(({ kind }, at) => [kind, URL.createObjectURL(others[at])]));
  const src = URL.createObjectURL(blob);
  const name = recipe.prompt ?? recipe.model;
  const size = { width: image.width, height: image.height };
  const saved = `darkroom-${image.seed}`;
  return element("figure", { className: addresses.depth ? "deep" : "" },
    element("div", { className: "beside" },
      element("img", { src, alt: name, ...size }),
      addresses.depth ? element("img", { src: addresses.depth, alt: `Depth: ${name}`, ...size }) : null),
    addresses.sound ? element("audio", { src: addresses.sound, controls: true }) : null,
    element("figcaption", {},
      element("b", { textContent: name }),
      inWords(image, recipe),
      image.finish_reason === "content_filtered" ? flagged() : null,
      element("div", { className: "row" },
        element("button", { className: "small", type: "button", textContent: "Keep seed", onclick: () => keep(image.seed) }),
        card().tasks.includes("img2img")
          ? element("button", { className: "small", type: "button", textContent: "Start from it", onclick: () => startFrom(blob) })
          : null,
        element("a", { href: src, download: `${saved}.${image.format}`, textContent: "Save" }),
        ...extras.map(({ kind, format }) => element("a", {
          href: addresses[kind], download: `${saved}-${kind}.${format}`, textContent: `Save its ${kind}` })))));
}

const flagged = () => element("p", { className: "problem",
  textContent: "The model's safety checker has flagged this picture; it may be hidden behind one that says so." });

/** The settings by which a picture was drawn, in a line. */
function inWords(image, recipe) {
  const { sampler, schedule } = recipe;
  const added = [...JSON.parse(recipe.loras ?? "[]"), ...JSON.parse(recipe.controls ?? "[]")];
  return [
    `${image.width}×${image.height}`,
    `${recipe.steps} steps`,
    `${title("sampler", sampler)}, ${title("schedule", schedule)}`,
    `guidance ${recipe.guidance_scale}`,
    ...added.map(({ name, model, weight }) => `${name ?? model} ${weight}`),
    recipe.refiner && `refined by ${recipe.refiner}`,
    recipe.hires_scale && `enlarged by ${recipe.hires_scale}`,
    `seed ${image.seed}`,
  ].filter(Boolean).join(" · ");
}

function keep(seed) {
  $("seed").value = seed;
  $("seed").closest("details").open = true;
}

async function startFrom(blob) {
  choose("img2img");
  await takeSource(blob);
  $("prompt").focus();
}
