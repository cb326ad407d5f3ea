// ControlNets, each with its control image, its weight and the steps in which it is active.

import { element } from "./elements.js";
import { ExtraNetworkList, fieldOf, weightSlider } from "./extra_networks.js";
import { takes } from "./tasks.js";

const MAX_CONTROLS = 4;

const list = new ExtraNetworkList("controls", "Add a ControlNet…", fields, MAX_CONTROLS);

export const showControls = ({ controlnets }) => list.update(controlnets);

/** Append the selected ControlNets to a form: a list in JSON, and their images as files. */
export function appendControls(form) {
  const { selected } = list;
  if (selected.length === 0) return;
  const number = (entry, name) => Number(fieldOf(entry, name).value);
  form.append("controls", JSON.stringify(selected.map((entry) => ({
    model: entry.dataset.name,
    weight: number(entry, "weight"), start: number(entry, "start"), end: number(entry, "end"),
  }))));
  selected.forEach((entry, index) => {
    const [file] = fieldOf(entry, "image").files;
    if (file) form.append(`control_image_${index}`, file, "control");
    else if (!takes("image") && !takes("file")) {
      throw { detail: `Choose an image for ${entry.dataset.name}.`, field: `controls.${index}.image` };
    }
  });
}

function fields(name) {
  const file = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/avif",
    className: "wide", ariaLabel: `Image for ${name}` });
  file.dataset.field = "image";
  return [
    file,
    ...weightSlider(`Weight of ${name}`, 0, 2, 1),
    element("div", { className: "pair wide" },
      stepShare(`Share of the steps before which ${name} is inactive`, "Active from", "start", 0),
      stepShare(`Share of the steps after which ${name} is inactive`, "to", "end", 1)),
  ];
}

function stepShare(ariaLabel, label, name, value) {
  const input = element("input", { type: "number", min: 0, max: 1, step: 0.05, value, ariaLabel });
  input.dataset.field = name;
  return element("div", {}, element("label", { textContent: label }), input);
}
