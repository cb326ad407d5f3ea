// ControlNets, each with its control image, its weight and the steps in which it is active.

import { element } from "../base/dom.js";
import { text } from "../strings.js";
import { ExtraNetworkList, fieldOf, weightSlider } from "./extra_networks.js";
import { takesInputImage } from "./tasks.js";

const MAX_CONTROLS = 4;

const list = new ExtraNetworkList("controls", text.add_control, fields, MAX_CONTROLS);

export const showControls = ({ controlnets }) => list.update(controlnets);

/** Return the selected ControlNets as the API takes them, and their images as files of a form. */
export function selectedControls() {
  const number = (entry, name) => Number(fieldOf(entry, name).value);
  const controls = list.selected.map((entry) => ({
    model: entry.dataset.name,
    weight: number(entry, "weight"), start: number(entry, "start"), end: number(entry, "end"),
    ...JSON.parse(entry.dataset.others),
  }));
  const files = {};
  list.selected.forEach((entry, index) => {
    const [file] = fieldOf(entry, "image").files;
    if (file) files[`control_image_${index}`] = file;
    else if (!takesInputImage()) {
      throw { detail: text.control_image_needed(entry.dataset.name), field: `controls.${index}.image` };
    }
  });
  return { controls, files };
}

/** Select ControlNets as the API takes them, with their files; those that the model does not have are left out. */
export function setControls(controls, files = {}) {
  list.clear();
  controls.forEach(({ model, weight = 1, start = 0, end = 1, image, ...others }, index) => {
    if (!list.names.includes(model)) return;
    const entry = list.add(model, { weight, start, end }, others);
    const file = files[`control_image_${index}`];
    if (file) setFile(fieldOf(entry, "image"), file);
  });
}

function setFile(input, blob) {
  const transfer = new DataTransfer();
  transfer.items.add(new File([blob], "control", { type: blob.type }));
  input.files = transfer.files;
  input.dispatchEvent(new Event("change"));
}

function fields(name) {
  const preview = element("img", { className: "wide control-preview", alt: "", hidden: true });
  const file = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/avif",
    className: "wide", ariaLabel: text.image_for(name), data: { field: "image" } });
  file.addEventListener("change", () => {
    URL.revokeObjectURL(preview.src);
    preview.hidden = file.files.length === 0;
    if (file.files[0]) preview.src = URL.createObjectURL(file.files[0]);
  });
  return [
    file,
    preview,
    ...weightSlider(text.weight_of(name), 0, 2, 1),
    element("div", { className: "pair wide" },
      stepShare(text.start_of(name), text.active_from, "start", 0),
      stepShare(text.end_of(name), text.active_to, "end", 1)),
  ];
}

function stepShare(ariaLabel, label, name, value) {
  const input = element("input", { type: "number", min: 0, max: 1, step: 0.05, value, ariaLabel, data: { field: name } });
  return element("div", {}, element("span", { className: "label", ariaHidden: "true", textContent: label }), input);
}
