// Types of darkroom.js. Fields of requests and responses have the names of the API.

export type Task =
  | "txt2img" | "img2img" | "inpaint" | "outpaint" | "upscale" | "unconditional" | "class" | "layout"
  | "semantic";
export type State = "queued" | "running" | "finished" | "failed" | "cancelled";

/** A file to send: base64 or a data URI as a string. */
export type ImageInput = Blob | ArrayBuffer | ArrayBufferView | ResultFile | string;

/** The fields of a request that most use; all others of the API are taken, too. */
export interface Fields {
  prompt?: string;
  negative_prompt?: string;
  model?: string;
  width?: number;
  height?: number;
  /** The number of images. */
  n?: number;
  seed?: number;
  steps?: number;
  sampler?: string;
  schedule?: string;
  guidance_scale?: number;
  strength?: number;
  /** For models that are conditioned on the depth of the image. */
  depth_map?: ImageInput;
  loras?: { name: string; weight?: number; [field: string]: unknown }[];
  controls?: { model: string; image?: ImageInput; weight?: number; [field: string]: unknown }[];
  hires_scale?: number;
  refiner?: string;
  upscaler?: string;
  scale?: number;
  output_format?: "png" | "jpeg" | "webp" | "avif";
  /** Ask for previews of images that are being generated. */
  previews?: boolean;
  priority?: "high" | "normal" | "low";
  deadline_s?: number;
  [field: string]: unknown;
}

export interface SubmitOptions extends Fields {
  /** The same key gives the same job. A new one by default. */
  idempotencyKey?: string;
}
export interface WaitOptions {
  onProgress?: (status: JobStatus) => void;
  /** Cancels the job when it is aborted. */
  signal?: AbortSignal;
}
export type RunOptions = SubmitOptions & WaitOptions;

export interface Warning { code: string; field?: string; detail: string }

/** The body of an error (RFC 9457). */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  field?: string;
  value?: unknown;
  bound?: string;
  job?: string;
  request_id?: string;
}

export interface JobStatus {
  id: string;
  state: State;
  /** Jobs ahead in the queue, and the seconds that those will take, if known. */
  position?: number;
  eta_s?: number;
  /** Denoising steps; in phase "load" the percent of the model that is loaded. */
  step: number;
  steps: number;
  phase?: string;
  /** A small JPEG of the first unfinished image, with an event that has a new one. */
  preview?: Blob;
  /** Of a job of several images: one of each image that has a new one. */
  previews?: { index: number; blob: Blob }[];
  error?: Problem;
  result?: Record<string, unknown>;
  warnings: Warning[];
  /** In lists. */
  model?: string;
  task?: Task;
  created_at?: string;
}

export interface Recipe {
  source?: string;
  task?: Task;
  /** The fields to send for the same image. */
  request?: Fields;
  /** The files that must be added. */
  needs: string[];
  parameters: Record<string, string | number | boolean>;
  texts: Record<string, string>;
  digital_source_type?: string;
  content_credentials?: Record<string, unknown>;
}

export class ResultFile {
  private constructor();
  /** The address of the file; where keys are needed it is signed and expires. */
  readonly url: string;
  readonly format: string;
  /** Bytes. */
  readonly size: number;
  /** The file, fetched once. */
  blob(): Promise<Blob>;
  bytes(): Promise<Uint8Array>;
  recipe(): Promise<Recipe>;
}
export interface Extra extends ResultFile { readonly kind: string }
export interface GeneratedImage extends ResultFile {
  readonly index: number;
  /** The seed that generates exactly this image. */
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  /** The safety checker of the model has flagged it. */
  readonly flagged: boolean;
  /** Files in addition to the image: depth or sound. */
  readonly extras: Extra[];
}

export interface Result {
  id: string;
  images: GeneratedImage[];
  timings: Record<string, number>;
  warnings: Warning[];
}

export interface Model {
  name: string;
  tasks: Task[];
  ready: boolean;
  workers: number;
  on_demand: boolean;
  loading: number | null;
  trouble: string | null;
  default_width: number;
  default_height: number;
  default_steps: number;
  default_sampler: string;
  [field: string]: unknown;
}
export interface Choice { name: string; title: string; models: string[] }

export interface Box { class: number | string; x: number; y: number; width: number; height: number }

export interface JobFilter {
  state?: State | State[];
  model?: string;
  task?: Task;
  created_after?: string;
  created_before?: string;
  /** Jobs to yield, at most. */
  limit?: number;
}

export interface RequestOptions {
  body?: unknown;
  headers?: Record<string, string>;
  query?: Record<string, unknown>;
  signal?: AbortSignal;
}

export interface DarkroomOptions {
  /** By default the server that has sent this module, else one on this machine. */
  url?: string | URL;
  key?: string | null;
  /** Further tries after an error that may pass. */
  retries?: number;
  fetch?: typeof fetch;
}

export class Darkroom {
  constructor(options?: DarkroomOptions);
  key: string | null | undefined;
  retries: number;

  generate(prompt: string, options?: RunOptions): Promise<Result>;
  imageToImage(prompt: string, image: ImageInput, options?: RunOptions): Promise<Result>;
  inpaint(prompt: string, image: ImageInput, mask?: ImageInput, options?: RunOptions): Promise<Result>;
  outpaint(prompt: string, image: ImageInput, options?: RunOptions): Promise<Result>;
  upscale(image: ImageInput, options?: RunOptions): Promise<Result>;
  unconditional(options?: RunOptions): Promise<Result>;
  classToImage(classId: number | string, options?: RunOptions): Promise<Result>;
  layoutToImage(boxes: Box[], options?: RunOptions): Promise<Result>;
  semanticToImage(labels: ImageInput, options?: RunOptions): Promise<Result>;
  run(task: Task, options?: RunOptions): Promise<Result>;

  submit(task: Task, options?: SubmitOptions): Promise<Job>;
  batch(prompts: string[], options?: SubmitOptions): Promise<Batch>;
  job(id: string): Job;
  jobs(filter?: JobFilter): AsyncGenerator<JobStatus, void>;
  readRecipe(image: ImageInput): Promise<Recipe>;
  models(): Promise<Model[]>;
  samplers(): Promise<{ samplers: Choice[]; schedules: Choice[] }>;
  loadModel(name: string): Promise<Model>;
  unloadModel(name: string): Promise<Model>;

  /** Send a request to any route. Throws a DarkroomError. */
  request(method: string, path: string, options?: RequestOptions): Promise<Response>;
  json(method: string, path: string, options?: RequestOptions): Promise<any>;
}

export class Job {
  private constructor();
  readonly id: string;
  status(): Promise<JobStatus>;
  wait(options?: WaitOptions): Promise<Result>;
  result(): Promise<Result>;
  events(options?: { signal?: AbortSignal }): AsyncGenerator<JobStatus, void>;
  cancel(): Promise<JobStatus>;
  delete(): Promise<void>;
  retry(options?: { idempotencyKey?: string }): Promise<Job>;
}

export class Batch {
  private constructor();
  readonly id: string;
  readonly count: number;
  states(): Promise<Partial<Record<State, number>>>;
  jobs(): AsyncGenerator<Job, void>;
  wait(options?: {
    onProgress?: (progress: { done: number; count: number }) => void;
    signal?: AbortSignal;
  }): Promise<Result[]>;
  cancel(): Promise<void>;
}

export class DarkroomError extends Error {
  readonly problem: Problem;
  /** The last part of the problem's type, such as "size-not-a-multiple". */
  readonly kind: string;
  readonly status?: number;
  readonly field?: string;
  readonly value?: unknown;
  readonly bound?: string;
  readonly jobId?: string;
  readonly requestId?: string;
  /** Seconds after which another try may succeed. */
  readonly retryAfter?: number;
}
/** No server answers, or the connection was lost. */
export class ServerUnreachable extends DarkroomError {}
/** 400, 406, 408, 413, 415, 421 */
export class BadRequest extends DarkroomError {}
/** 401 */
export class Unauthorized extends DarkroomError {}
/** 403 */
export class Forbidden extends DarkroomError {}
/** 404 */
export class NotFound extends DarkroomError {}
/** 409 */
export class Conflict extends DarkroomError {}
/** 409 job-cancelled */
export class JobCancelled extends Conflict {}
/** 410 */
export class Gone extends DarkroomError {}
/** 422 */
export class InvalidRequest extends DarkroomError {}
/** 429 */
export class LimitReached extends DarkroomError {}
/** 500 and above */
export class ServerError extends DarkroomError {}
/** 500 job-failed, and other failures of a job */
export class JobFailed extends ServerError {}
/** 503 */
export class Unavailable extends ServerError {}
/** 503 job-lost */
export class JobLost extends Unavailable {}
/** 504 */
export class DeadlineExceeded extends ServerError {}
