// A writer of grey PNG files of 8 bits: class maps, whose levels are the numbers of classes.
// Source: Portable Network Graphics (PNG) Specification, third edition (W3C).

import { crc32 } from "../base/crc32.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** Return a PNG of `width` × `height` levels, row by row. */
export async function greyPng(levels, width, height) {
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 0, 0, 0, 0], 8);  // 8 bits, grey, deflate, no filter method but the standard's, not interlaced
  const rows = new Uint8Array((width + 1) * height);  // each row begins with its filter, 0: none
  for (let y = 0; y < height; y += 1) rows.set(levels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const chunks = [chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array(0))];
  return new Blob([new Uint8Array(SIGNATURE), ...chunks], { type: "image/png" });
}

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...type].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}
