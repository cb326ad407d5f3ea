// The number of tokens of the prompt, counted by the service with the tokenizer of the model.

import { requestJson } from "../api.js";
import { $ } from "../base/dom.js";
import { text } from "../strings.js";
import { card } from "./models.js";

const DELAY_MS = 300;
let timer = null, counted = "";

/** Count the tokens some time after the last change of the prompt or the model. */
export function countTokens() {
  clearTimeout(timer);
  timer = setTimeout(count, DELAY_MS);
}

async function count() {
  const model = card();
  if (!model || model.max_prompt_tokens === 0) return;
  const body = { model: model.name, prompt: $("prompt").value, prompt_syntax: $("prompt_syntax").value };
  if (JSON.stringify(body) === counted) return;
  try {
    const { tokens, max_tokens } = await requestJson("/v1/tokens", body);
    counted = JSON.stringify(body);
    $("tokens").textContent = text.tokens(tokens, max_tokens);
    $("tokens").classList.toggle("error", tokens > max_tokens);
  } catch {
    $("tokens").textContent = "";  // the model's tokenizer is not known yet
  }
}
