// The borders of outpainting, from the numbers in the form.

import { $ } from "../base/dom.js";

const number = (id) => Math.max(0, Math.round(Number($(id).value) || 0));

/** Return the place of an image in the result: its left and top, and the size of the result as right and bottom. */
export function borders(width, height) {
  if ($("border_by").value === "pixels") {
    const left = number("left"), top = number("top");
    return { left, top, right: left + width + number("right"), bottom: top + height + number("bottom") };
  }
  const right = Math.max(width, number("width")), bottom = Math.max(height, number("height"));
  const anchor = $("anchor").value;
  const place = (free, start, end) => (anchor.includes(start) ? 0 : anchor.includes(end) ? free : Math.floor(free / 2));
  return { left: place(right - width, "left", "right"), top: place(bottom - height, "top", "bottom"), right, bottom };
}
