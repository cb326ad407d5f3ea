// The class of class-conditional models.

import { $ } from "../base/dom.js";
import { ClassPicker } from "./classes.js";
import { card } from "./models.js";

let picker = null;

export function buildClassInput() {
  picker = new ClassPicker($("class_id"), card, () => {});
}

export const selectedClass = () => picker.value;

export const setClass = (index) => picker.choose(index);
