// The gallery of finished images, with their extra files and settings.

import { request } from "./api.js";
import { $, element } from "./elements.js";
import { setInputImage } from "./input_image.js";
import { card, title } from "./models.js";
import { selectTask } from "./tasks.js";

/** Add the images of a finished job at the top; `settings` are those of its request. */
export async function addToGallery({ id, result }, settings) {
  const figures = await Promise.all(result.images.map((image) => figure(id, image, settings)));
  $("empty").hidden = true;
  $("gallery").prepend(element("div", { className: "set" }, ...figures));
}

async function figure(id, image, settings) {
  const path = `/v1/jobs/${id}/images/${image.index}`;
  const download = async (url) => (await request(url)).blob();
  const extras = image.extras ?? [];
  const [blob, ...files] = await Promise.all(
    [download(path), ...extras.map(({ kind }) => download(`${path}/${kind}`))]);
  const urls = Object.fromEntries(extras.map(({ kind }, index) => [kind, URL.createObjectURL(files[index])]));
  const src = URL.createObjectURL(blob);
  const name = settings.prompt ?? settings.model;
  const size = { width: image.width, height: image.height };
  const filename = `darkroom-${image.seed}`;
  return element("figure", { className: urls.depth ? "with-depth" : "" },
    element("div", { className: "image-row" },
      element("img", { src, alt: name, ...size }),
      urls.depth ? element("img", { src: urls.depth, alt: `Depth: ${name}`, ...size }) : null),
    urls.sound ? element("audio", { src: urls.sound, controls: true }) : null,
    element("figcaption", {},
      element("b", { textContent: name }),
      summary(image, settings),
      image.finish_reason === "content_filtered" ? flaggedNote() : null,
      element("div", { className: "row" },
        element("button", { className: "small", type: "button", textContent: "Reuse seed", onclick: () => reuseSeed(image.seed) }),
        card().tasks.includes("img2img")
          ? element("button", { className: "small", type: "button", textContent: "Use as input", onclick: () => useAsInput(blob) })
          : null,
        element("a", { href: src, download: `${filename}.${image.format}`, textContent: "Save" }),
        ...extras.map(({ kind, format }) => element("a", {
          href: urls[kind], download: `${filename}-${kind}.${format}`, textContent: `Save ${kind}` })))));
}

const flaggedNote = () => element("p", { className: "problem",
  textContent: "The model's safety checker has flagged this image; a notice may be shown in its place." });

/** Return the settings of an image in one line. */
function summary(image, settings) {
  const { sampler, schedule } = settings;
  const networks = [...JSON.parse(settings.loras ?? "[]"), ...JSON.parse(settings.controls ?? "[]")];
  return [
    `${image.width}×${image.height}`,
    settings.upscaler && [settings.upscaler, settings.upscaler_2].filter(Boolean).join(" and "),
    settings.tile_size && `tiles of ${settings.tile_size}`,
    sampler && `${settings.steps} steps`,
    sampler && `${title("sampler", sampler)}, ${title("schedule", schedule)}`,
    sampler && `guidance ${settings.guidance_scale}`,
    ...networks.map(({ name, model, weight }) => `${name ?? model} ${weight}`),
    settings.refiner && `refiner ${settings.refiner}`,
    settings.hires_scale && `hires scale ${settings.hires_scale}`,
    `seed ${image.seed}`,
  ].filter(Boolean).join(" · ");
}

function reuseSeed(seed) {
  $("seed").value = seed;
  $("seed").closest("details").open = true;
}

async function useAsInput(blob) {
  selectTask("img2img");
  await setInputImage(blob);
  $("prompt").focus();
}
