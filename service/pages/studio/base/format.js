// Numbers as text.

export const percent = (share) => `${Math.round(100 * share)} %`;

/** Return a duration such as "40 s" or "3 min". */
export const duration = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);

export const size = (width, height) => `${width} × ${height}`;
