// Addresses of the service. A proxy may serve it below a path, so they start from this script's own.

/** Return the URL of a path of the API such as "/v1/models". */
export const urlOf = (path) => new URL(`..${path}`, import.meta.url);
