// The API reference: Swagger UI with the description of this service.

import { urlOf } from "./urls.js";

const KEY = "key";  // in the session, as on the page at /

/* global SwaggerUIBundle: of the script before this one */
const ui = SwaggerUIBundle({
  url: String(urlOf("/openapi.json")),
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  // The key of the page is used here, too. Without this, the description would not be loaded twice.
  onComplete: () => {
    const key = sessionStorage.getItem(KEY);
    if (key) ui.preauthorizeApiKey("bearer", key);
  },
});
