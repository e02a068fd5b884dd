// Sends requests, again where that may help, and reads pages.
import { ConnectionFailedError, errorOf } from "./errors.js";
import type { operations } from "./generated/schema.js";

export type OperationId = keyof operations;

type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : never;
type Parameters_<K extends OperationId, Place extends string> = operations[K] extends {
  parameters: { [P in Place]?: infer Given };
}
  ? Exclude<Given, undefined>
  : never;
type Body<K extends OperationId> = operations[K] extends { requestBody: infer Given }
  ? Json<Given>
  : operations[K] extends { requestBody?: infer Given }
    ? Json<Exclude<Given, undefined>>
    : never;

/** Needed where one of its members is. */
type Part<Name extends string, T> = [T] extends [never]
  ? { [N in Name]?: undefined }
  : object extends T
    ? { [N in Name]?: T }
    : { [N in Name]: T };
type HeadersPart<K extends OperationId> = { headers?: Parameters_<K, "header"> | Record<string, string> };

/** What an operation is called with. */
export type Args<K extends OperationId> = Part<"path", Parameters_<K, "path">> &
  Part<"query", Parameters_<K, "query">> &
  (operations[K] extends { requestBody: infer Given }
    ? [Json<Given>] extends [never]
      ? { body: string | Uint8Array; contentType?: string }
      : { body: Json<Given> }
    : Part<"body", Body<K>>) &
  HeadersPart<K> & { signal?: AbortSignal };

/** What an operation answers with. */
export type Result<K extends OperationId> = operations[K] extends { responses: infer Answers }
  ? { [S in keyof Answers & (200 | 201 | 202)]: Json<Answers[S]> }[keyof Answers & (200 | 201 | 202)] extends infer Found
    ? [Found] extends [never]
      ? void
      : Found
    : void
  : void;

export type Call<K extends OperationId> = object extends Args<K>
  ? (args?: Args<K>) => Promise<Result<K>>
  : (args: Args<K>) => Promise<Result<K>>;

type Item<T> = T extends { items: (infer One)[] } ? One : never;
export type Listing<K extends OperationId> = object extends Args<K>
  ? (args?: Args<K>) => AsyncGenerator<Item<Result<K>>>
  : (args: Args<K>) => AsyncGenerator<Item<Result<K>>>;

export interface Options {
  /** Where the API is, as in `https://api.example.com`. */
  baseUrl: string;
  apiKey: string;
  /** How often a request that found nobody, or an answer of 429, 502, 503 or 504, is tried again; 3 unless given. */
  retries?: number;
  /** Milliseconds until an attempt is given up; 30,000 unless given. */
  timeout?: number;
  fetch?: typeof fetch;
}

interface Loose {
  path?: Record<string, unknown>;
  query?: Record<string, unknown>;
  headers?: Record<string, unknown>;
  body?: unknown;
  contentType?: string;
  signal?: AbortSignal;
}

/** Statuses after which the same may go well in a moment. */
const AGAIN = new Set([429, 502, 503, 504]);
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 20_000;

/** After how many milliseconds to try again: what the API asks for, else longer each time, with some chance. */
export function pause(attempt: number, response?: Response): number {
  const asked = response?.headers.get("retry-after");
  if (asked && /^\d+$/.test(asked)) return Math.min(Number(asked) * 1000, LONGEST_PAUSE);
  return Math.min(FIRST_PAUSE * 2 ** attempt, LONGEST_PAUSE) * (0.5 + Math.random() / 2);
}

export const sleep = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

export class Caller {
  readonly #options: Options;
  readonly #fetch: typeof fetch;

  constructor(options: Options) {
    this.#options = options;
    this.#fetch = options.fetch ?? fetch;
  }

  url(path: string, args: Pick<Loose, "path" | "query">): URL {
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(args.path?.[name])));
    const url = new URL(this.#options.baseUrl.replace(/\/$/, "") + filled);
    for (const [name, value] of Object.entries(args.query ?? {})) {
      if (value === undefined || value === null) continue;
      for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, String(one));
    }
    return url;
  }

  headers(more: Record<string, unknown> = {}): Headers {
    const headers = new Headers({ authorization: `Bearer ${this.#options.apiKey}` });
    for (const [name, value] of Object.entries(more)) {
      if (value !== undefined && value !== null) headers.set(name, String(value));
    }
    return headers;
  }

  /** One attempt. */
  send(url: URL, init: RequestInit): Promise<Response> {
    return this.#fetch.call(globalThis, url, init);
  }

  call(method: string, path: string, answers: "json" | "text" = "json") {
    return async (args: Loose = {}): Promise<unknown> => {
      const response = await this.#attempts(method, path, args);
      if (!response.ok) throw await errorOf(response);
      const text = await response.text();
      if (answers === "text") return text;
      return text === "" ? undefined : JSON.parse(text);
    };
  }

  listing(path: string) {
    const ask = this.call("GET", path);
    return async function* (args: Loose = {}): AsyncGenerator<unknown> {
      let cursor: string | undefined;
      do {
        const page = (await ask({ ...args, query: { ...args.query, cursor } })) as {
          items: unknown[];
          next_cursor?: string | null;
        };
        yield* page.items;
        cursor = page.next_cursor ?? undefined;
      } while (cursor !== undefined);
    };
  }

  async #attempts(method: string, path: string, args: Loose): Promise<Response> {
    const retries = this.#options.retries ?? 3;
    const headers = this.headers(args.headers);
    const raw = typeof args.body === "string" || args.body instanceof Uint8Array;
    let body: BodyInit | undefined;
    if (args.body !== undefined) {
      headers.set("content-type", args.contentType ?? (raw ? "text/csv" : "application/json"));
      body = raw ? (args.body as string) : JSON.stringify(args.body);
    }
    // so that an attempt whose answer was lost is not done twice
    if (method === "POST" && retries > 0 && !raw && !headers.has("idempotency-key")) {
      headers.set("idempotency-key", crypto.randomUUID());
    }
    for (let attempt = 0; ; attempt++) {
      const last = attempt === retries;
      const timeout = AbortSignal.timeout(this.#options.timeout ?? 30_000);
      let response: Response | undefined;
      try {
        const init = { method, headers, body: body ?? null, signal: timeout };
        response = await this.send(this.url(path, args), args.signal ? { ...init, signal: args.signal } : init);
      } catch (error) {
        if (args.signal?.aborted) throw error;
        if (last) throw new ConnectionFailedError(String(error), { cause: error });
      }
      if (response && (last || !AGAIN.has(response.status))) return response;
      await response?.body?.cancel();
      await sleep(pause(attempt, response));
    }
  }
}
