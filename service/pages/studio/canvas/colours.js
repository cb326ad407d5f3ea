// A colour for each class, far from those of its neighbours.

const GOLDEN_ANGLE = 137.508;

/** Return red, green and blue of a class, each from 0 to 255. */
export function classColour(index) {
  const hue = (index * GOLDEN_ANGLE) % 360, light = [0.55, 0.42, 0.68][index % 3];
  const chroma = (1 - Math.abs(2 * light - 1)) * 0.75;
  const channel = (offset) => {
    const k = (offset + hue / 30) % 12;
    return Math.round(255 * (light - chroma / 2 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

export const cssColour = (index) => `rgb(${classColour(index).join(" ")})`;
