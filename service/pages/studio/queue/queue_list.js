// The list of jobs, the progress of the oldest, and the title of the tab.

import { $, element, iconButton } from "../base/dom.js";
import { duration, percent } from "../base/format.js";
import { showProblem, showStatus } from "../form/problems.js";
import { text } from "../strings.js";
import { cancel, changes, dismiss, hasEnded, jobs, secondsLeft, share } from "./jobs.js";

const rows = new Map();  // by job

export function buildQueue() {
  changes.addEventListener("change", ({ detail }) => showQueue(detail));
  $("cancel").addEventListener("click", cancelOldest);
}

export const nameOf = ({ fields, task }) => fields.prompt || text.tasks[task];

/** Cancel the oldest job that has not ended. Returns false if there is none. */
export function cancelOldest() {
  const job = jobs.find((each) => !hasEnded(each));
  if (job) cancel(job).catch(showProblem);
  return Boolean(job);
}

function showQueue(changed) {
  for (const [job, row] of rows) if (!jobs.includes(job)) { row.remove(); rows.delete(job); }
  for (const job of jobs) {
    if (!rows.has(job)) $("queue").append(rows.set(job, rowOf(job)).get(job));
  }
  if (rows.has(changed)) showRow(changed, rows.get(changed));
  $("queue-section").hidden = jobs.length === 0;
  const open = jobs.filter((job) => !hasEnded(job));
  $("cancel").hidden = open.length === 0;
  $("progress").hidden = open.length === 0;
  document.title = open.length ? text.title_progress(Math.round(100 * share(open[0])), open.length) : text.title;
  if (open.length === 0) return;
  $("progress").value = share(open[0]);
  const isNews = changed === open[0] || $("status").textContent === text.sending;
  if (isNews) showStatus(stateText(open[0]));
}

function rowOf(job) {
  return element("li", {},
    element("img", { className: "thumbnail", alt: "", hidden: true }),
    element("div", { className: "job" },
      element("b", { textContent: nameOf(job) }),
      element("span", { className: "state" }),
      element("progress", { max: 1, value: 0, ariaLabel: nameOf(job) })),
    iconButton("close", text.cancel_job(nameOf(job)), () => (hasEnded(job) ? dismiss(job) : cancel(job).catch(showProblem))));
}

function showRow(job, row) {
  const image = row.querySelector("img"), bar = row.querySelector("progress");
  const failed = job.status.state === "failed";
  row.querySelector(".state").textContent = failed ? job.status.error?.detail ?? text.failed : stateText(job);
  row.classList.toggle("failed", failed);
  row.classList.toggle("running", job.status.state === "running");
  bar.value = share(job);
  bar.hidden = failed;
  image.hidden = !job.preview;
  if (job.preview && image.src !== job.preview) image.src = job.preview;
  if (failed) Object.assign(row.querySelector("button"), { title: text.dismiss_job(nameOf(job)), ariaLabel: text.dismiss_job(nameOf(job)) });
}

/** Return the state of a job as a sentence: its place in the queue, or its step, and the time left. */
function stateText(job) {
  const { state, step, steps, phase, position, unreachable } = job.status;
  if (unreachable) return text.waiting;
  const seconds = secondsLeft(job);
  const left = seconds > 1 ? ` · ${text.left(duration(seconds))}` : "";
  if (state === "running") return steps > 1 ? text.step(step, steps) + left : text.starting;
  if (state !== "queued") return percent(share(job));
  if (phase === "load") return text.loading_model(step);
  return (position ? text.queued(position) : text.next_in_line) + left;
}
