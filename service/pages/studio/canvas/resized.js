// The input image as image to image uses it: in the size of the result.

/** Render the bitmap on the canvas in its size: "crop" its centre, "fill" by continued edges, or "stretch". */
export function renderResized(canvas, bitmap, mode) {
  const { width, height } = canvas;
  const scales = [width / bitmap.width, height / bitmap.height];
  const scale = mode === "fill" ? Math.min(...scales) : Math.max(...scales);
  const [w, h] = mode === "stretch" ? [width, height] : [bitmap.width * scale, bitmap.height * scale];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  if (mode === "fill") continueEdges(context, Math.ceil((width - w) / 2), Math.ceil((height - h) / 2));
}

/** Repeat the pixels at the edges of the image, which begins at x and y, to those of the canvas. */
function continueEdges(context, x, y) {
  const { canvas } = context, { width, height } = canvas;
  for (const [from, to] of [[x, 0], [width - x - 1, width - x]]) {
    if (x > 0) context.drawImage(canvas, from, 0, 1, height, to, 0, x, height);
  }
  for (const [from, to] of [[y, 0], [height - y - 1, height - y]]) {
    if (y > 0) context.drawImage(canvas, 0, from, width, 1, 0, to, width, y);
  }
}
