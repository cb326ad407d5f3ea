// A writer of zip files whose entries are stored: image files do not get smaller by compression.
// Source: APPNOTE.TXT, .ZIP File Format Specification 6.3 (PKWARE), 4.3.7, 4.3.12 and 4.3.16.

import { crc32 } from "../base/crc32.js";

const VERSION = 20;          // 2.0
const UTF8 = 0x0800;         // the flag of names in UTF-8
const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;

/** Return a zip file of {name, bytes, date}. */
export function zip(files) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { name, bytes, date } of files) {
    const encoded = new TextEncoder().encode(name);
    const common = [[2, VERSION], [2, UTF8], [2, 0], [2, time(date)], [2, day(date)], [4, crc32(bytes)],
      [4, bytes.length], [4, bytes.length], [2, encoded.length], [2, 0]];
    const header = record([[4, LOCAL], ...common]);
    parts.push(header, encoded, bytes);
    directory.push(record([[4, CENTRAL], [2, VERSION], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), encoded);
    offset += header.length + encoded.length + bytes.length;
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = record([[4, END], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Return [width, value] pairs as little-endian numbers of `width` bytes. */
function record(fields) {
  const bytes = [];
  for (const [width, value] of fields) {
    for (let byte = 0; byte < width; byte += 1) bytes.push((value >>> (8 * byte)) & 255);
  }
  return new Uint8Array(bytes);
}

const time = (date) => date.getHours() << 11 | date.getMinutes() << 5 | date.getSeconds() >> 1;
const day = (date) => (date.getFullYear() - 1980) << 9 | (date.getMonth() + 1) << 5 | date.getDate();
