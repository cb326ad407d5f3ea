// The page at /: builds the form and shows it, then loads the rest of the studio.

import { $, fillTexts } from "./base/dom.js";
import { startTheme } from "./base/theme.js";
import { buildFields } from "./form/fields.js";
import { buildTabs } from "./form/tabs.js";

const painted = () => new Promise((done) => { requestAnimationFrame(() => setTimeout(done)); });

fillTexts();
startTheme();
buildTabs($("tabs"));
buildFields(document);
$("settings").open = matchMedia("(min-width: 760px)").matches;
if (!document.hidden) await painted();  // a hidden page is not painted
await import("./studio.js");
