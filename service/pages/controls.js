// ControlNets, each with the picture it is shown, how strongly and how long it is heard.

import { Additions, part, slider } from "./additions.js";
import { element } from "./elements.js";

const MOST = 4;

const additions = new Additions("controls", "Add a ControlNet…", parts, MOST);

export const offerControls = ({ controlnets }) => additions.offer(controlnets);

/** Put what was chosen into a form: a list in JSON, and the pictures beside it. */
export function appendControls(form) {
  const chosen = additions.chosen;
  if (chosen.length === 0) return;
  const number = (one, name) => Number(part(one, name).value);
  form.append("controls", JSON.stringify(chosen.map((one) => ({
    model: one.dataset.name,
    weight: number(one, "weight"), start: number(one, "start"), end: number(one, "end"),
  }))));
  chosen.forEach((one, at) => {
    const [file] = part(one, "image").files;
    if (!file) throw { detail: `Choose a picture for ${one.dataset.name}.`, field: `controls.${at}.image` };
    form.append(`control_image_${at}`, file, "control");
  });
}

function parts(name) {
  const file = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp",
    className: "wide", ariaLabel: `Picture for ${name}` });
  file.dataset.part = "image";
  return [
    file,
    ...slider(`Weight of ${name}`, 0, 2, 1),
    element("div", { className: "pair wide" },
      share(`Share of the steps before which ${name} is not heard`, "Heard from", "start", 0),
      share(`Share of the steps after which ${name} is not heard`, "to", "end", 1)),
  ];
}

function share(ariaLabel, shown, name, value) {
  const input = element("input", { type: "number", min: 0, max: 1, step: 0.05, value, ariaLabel });
  input.dataset.part = name;
  return element("div", {}, element("label", { textContent: shown }), input);
}
