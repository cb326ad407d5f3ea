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
  // The key that was entered on the page is used here, too.
  onComplete: () => {
    const key = sessionStorage.getItem(KEY);
    if (key) ui.preauthorizeApiKey("bearer", key);
  },
});
