// What a developer would write; compiled against the client, so that its types are tried, too.
import {
  createThroughline,
  InvalidError,
  NotFoundError,
  SignatureError,
  UnauthorizedError,
  verify,
  type components,
} from "./index.js";

declare const process: { env: Record<string, string>; exitCode: number };
declare const console: { log(...words: unknown[]): void };

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`not so: ${what}`);
}

async function refused<T extends Error>(doing: Promise<unknown>, kind: abstract new (...given: never[]) => T): Promise<T> {
  try {
    await doing;
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`no ${kind.name}`);
}

const baseUrl = process.env["BASE_URL"]!;
const throughline = createThroughline({ baseUrl, apiKey: process.env["API_KEY"]! });

const ann: components["schemas"]["PersonOut"] = await throughline.people.create({
  body: { email: "ann@acme.example", first_name: "Ann" },
});
for (const number of [0, 1, 2, 3]) await throughline.people.create({ body: { email: `p${number}@acme.example` } });
const quiz = { type: "quiz.taken", person: { id: ann.id }, properties: { score: 7 } };
check((await throughline.events.create({ body: quiz })).id.length === 36, "an event is recorded");

const made = await throughline.journeys.create({
  body: {
    key: "nap",
    name: "Nap",
    definition: {
      entry: { api: true },
      start: "nap",
      nodes: {
        nap: { type: "wait", for: "P1D", next: "done" },
        done: { type: "exit", reason: "finished" },
      },
    },
  },
});
await throughline.journeys.publish({ path: { journey: made.id }, body: { in_flight: "finish" } });
const told = await throughline.journeys.enroll({ path: { journey: "nap" }, body: { person_id: ann.id } });
check(told.enrolled === 1, "a person is enrolled");

const page = await throughline.people.list({ query: { limit: 2 } });
check(page.items.length === 2 && typeof page.next_cursor === "string", "a page is read");
const emails: (string | null | undefined)[] = [];
for await (const each of throughline.people.list_all({ query: { limit: 2 } })) emails.push(each.email);
check(emails.length === 5, "all pages are read");

const invalid = await refused(throughline.people.create({ body: { email: "nonsense" } }), InvalidError);
check(invalid.status === 422 && invalid.errors[0]?.field === "email", "a field at fault is named");
const nobody = { person_id: "01a0c1f2-0000-7000-8000-000000000001" };
check((await refused(throughline.people.get({ path: nobody }), NotFoundError)).code === "not-found", "404 is typed");
await refused(createThroughline({ baseUrl, apiKey: "tl_live_wrong" }).people.list(), UnauthorizedError);

// @ts-expect-error there is no such field
await refused(throughline.people.create({ body: { nonsense: 1 } }), InvalidError);
// @ts-expect-error the path's names are needed
const incomplete = () => throughline.people.get({});
check(typeof incomplete === "function", "types are checked");

// what may go well in a moment is tried again, under one key
const keys: (string | null)[] = [];
const flaky = createThroughline({
  baseUrl,
  apiKey: process.env["API_KEY"]!,
  fetch: async (url, init) => {
    keys.push(new Headers(init?.headers).get("idempotency-key"));
    if (keys.length === 1) throw new TypeError("nobody");
    if (keys.length === 2) return new Response(null, { status: 503, headers: { "retry-after": "0" } });
    return fetch(url, init);
  },
});
await flaky.events.create({ body: quiz });
check(keys.length === 3 && new Set(keys).size === 1 && keys[0] !== null, "tried again under one key");

// the stream, and where it broke off
const ends = new AbortController();
const heard = throughline.listen({ types: ["quiz.*"], signal: ends.signal });
let first: Awaited<ReturnType<typeof heard.next>> | undefined;
const waiting = heard.next().then((found) => (first = found));
while (first === undefined) {
  await throughline.events.create({ body: quiz });
  await Promise.race([waiting, new Promise((done) => setTimeout(done, 200))]);
}
const event = first.value;
check(event?.type === "quiz.taken" && event.id !== undefined, "an event is heard");
ends.abort();
await throughline.events.create({ body: { ...quiz, type: "quiz.done" } });
const later = throughline.listen({ types: ["quiz.done"], lastEventId: event!.id! });
check((await later.next()).value?.type === "quiz.done", "it goes on where it broke off");
await later.return(undefined);

// a webhook
const body = process.env["HOOK_BODY"]!;
const headers = JSON.parse(process.env["HOOK_HEADERS"]!) as Record<string, string>;
const secret = process.env["HOOK_SECRET"]!;
check((await verify(body, headers, secret)).type === "order.placed", "a webhook is known by its signature");
await refused(verify(body + " ", headers, secret), SignatureError);
await refused(verify(body, headers, secret, 1000), SignatureError);

console.log("all is well");
