// The settings that a LoRA was trained for, as few steps: set with the LoRA, and taken back with it.

import { $ } from "../base/dom.js";
import { card } from "./models.js";

const SETTINGS = ["sampler", "schedule", "guidance_scale", "steps"];

/** Set the settings that a LoRA was trained for, if the model has them. */
export function setSettingsOf(name) {
  const info = offeredInfo(name);
  if (!info) return;
  for (const setting of SETTINGS) $(setting).value = info[setting];
  $("form").dispatchEvent(new Event("change"));
}

/** Set those settings that are still the LoRA's to the model's defaults. */
export function resetSettingsOf(name) {
  const info = offeredInfo(name);
  if (!info) return;
  for (const setting of SETTINGS) {
    if ($(setting).value === String(info[setting])) $(setting).value = card()[`default_${setting}`];
  }
  $("form").dispatchEvent(new Event("change"));
}

function offeredInfo(name) {
  const { lora_info: infos, samplers, schedules, max_steps: most } = card();
  return infos.find((info) => info.name === name && info.steps !== null && info.steps <= most &&
    samplers.includes(info.sampler) && schedules.includes(info.schedule));
}
