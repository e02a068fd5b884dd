// Reads the stream of what happens (Server-Sent Events), and goes on where it broke off.
import { type Caller, pause, sleep } from "./call.js";
import { errorOf, ProblemError } from "./errors.js";

/** Something that happened, or how far something is. */
export interface StreamEvent {
  /** Where to go on after it: give it as `lastEventId`. Undefined for what is only of the moment, such as progress. */
  id: string | undefined;
  type: string;
  data: unknown;
}

export interface ListenOptions {
  /** As in `order.*` and `person.created`; all unless given. */
  types?: string[];
  /** As in `person:ID`. */
  subject?: string;
  /** What is on its way, as in `import:ID`. */
  progress?: string[];
  lastEventId?: string;
  /** Ends it. */
  signal?: AbortSignal;
}

/** Milliseconds without a heartbeat after which the connection is taken for dead: the API sends one every 15 s. */
const SILENCE = 60_000;

/** Takes the stream line by line, and gives an event when it is whole. */
class Frames {
  retry: number | undefined;
  #id: string | undefined;
  #type = "";
  #data: string[] = [];

  constructor(public lastEventId: string | undefined) {}

  /** Forgets what a broken connection left unfinished: it comes again. */
  begin(): void {
    this.#data = [];
    this.#type = "";
    this.#id = undefined;
  }

  line(text: string): StreamEvent | undefined {
    if (text === "") return this.#whole();
    const colon = text.indexOf(":");
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id") this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    return undefined;
  }

  #whole(): StreamEvent | undefined {
    const [data, type, id] = [this.#data.join("\n"), this.#type || "message", this.#id];
    this.begin();
    if (id !== undefined) this.lastEventId = id;
    return data === "" ? undefined : { id, type, data: JSON.parse(data) };
  }
}

async function* lines(body: ReadableStream<Uint8Array>, alive: () => void): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      rest += decoder.decode(value, { stream: true });
      const parts = rest.split(/\r\n|\n|\r(?!$)/);
      rest = parts.pop() ?? "";
      yield* parts;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** What happens, for as long as somebody asks; a connection that breaks is made again where it broke. */
export async function* listen(caller: Caller, options: ListenOptions = {}): AsyncGenerator<StreamEvent> {
  const frames = new Frames(options.lastEventId);
  const url = caller.url("/v1/stream", {
    query: { types: options.types?.join(","), subject: options.subject, progress: options.progress?.join(",") },
  });
  for (let attempt = 0; !options.signal?.aborted; attempt = Math.min(attempt + 1, 8)) {
    const broken = new AbortController();
    // The timer would keep a program from its end that asks for nothing more after it aborted.
    const end = () => {
      clearTimeout(silent);
      broken.abort();
    };
    options.signal?.addEventListener("abort", end);
    let silent = setTimeout(end, SILENCE);
    const alive = () => {
      clearTimeout(silent);
      silent = setTimeout(end, SILENCE);
    };
    let response: Response | undefined;
    frames.begin();
    try {
      const headers = caller.headers({ accept: "text/event-stream", "last-event-id": frames.lastEventId });
      response = await caller.send(url, { headers, signal: broken.signal });
      if (!response.ok && response.status < 500 && response.status !== 429) throw await errorOf(response);
      if (response.ok && response.body) {
        for await (const text of lines(response.body, alive)) {
          attempt = 0;
          const event = frames.line(text);
          if (event) yield event;
        }
      }
    } catch (error) {
      if (error instanceof ProblemError) throw error;
      if (error instanceof SyntaxError) throw error;
    } finally {
      clearTimeout(silent);
      options.signal?.removeEventListener("abort", end);
    }
    if (!options.signal?.aborted) {
      await sleep(attempt === 0 && frames.retry !== undefined ? frames.retry : pause(attempt, response));
    }
  }
}
