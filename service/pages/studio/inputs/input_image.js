// The input image of the form: a file, decoded to be shown.

import { text } from "../strings.js";

let current = null;  // {blob, bitmap, width, height}
const listeners = [];

/** Return the input image: its file, its pixels and its size; null if there is none. */
export const inputImage = () => current;

/** Call `listener` whenever the input image is another one. */
export const onInputImage = (listener) => listeners.push(listener);

/** Use a file as the input image. Throws a problem if the browser cannot decode it. */
export async function setInputImage(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw { detail: text.unreadable, field: "image" };
  }
  change({ blob, bitmap, width: bitmap.width, height: bitmap.height });
}

export const clearInputImage = () => change(null);

function change(image) {
  current?.bitmap.close();
  current = image;
  for (const listener of listeners) listener(image);
}
