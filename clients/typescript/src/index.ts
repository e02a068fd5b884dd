// A typed client of the Throughline API.
import { Caller, type Options } from "./call.js";
import { type Api, api } from "./generated/api.js";
import { type ListenOptions, listen, type StreamEvent } from "./stream.js";

export type { Args, Call, Listing, OperationId, Options, Result } from "./call.js";
export * from "./errors.js";
export type { components, operations, paths } from "./generated/schema.js";
export type { ListenOptions, StreamEvent } from "./stream.js";
export * from "./webhooks.js";

export type Throughline = Api & {
  /** What happens, as it happens; reconnects by itself. */
  listen(options?: ListenOptions): AsyncGenerator<StreamEvent>;
};

/** The API, noun by noun: `throughline.people.create({ body: { email: "ann@acme.example" } })`. */
export function createThroughline(options: Options): Throughline {
  const caller = new Caller(options);
  return { ...api(caller), listen: (asked?: ListenOptions) => listen(caller, asked) };
}
