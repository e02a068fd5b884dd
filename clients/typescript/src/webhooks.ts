// Tells whether a webhook comes from Throughline: Standard Webhooks' signatures.

/** Seconds by which the two clocks may differ; what is older may have been recorded and sent again. */
export const TOLERANCE = 300;

/** It is not signed by the secret, or too old. */
export class SignatureError extends Error {
  override name = "SignatureError";
}

/** An event, as a webhook or the stream tells it. */
export interface EventData {
  subject: { type: string; id: string };
  person_id: string | null;
  properties: Record<string, unknown>;
  received_at: string;
  /** False for an event that was told long after it happened. */
  live: boolean;
}

export interface WebhookEvent {
  id: string;
  type: string;
  timestamp: string;
  data: EventData;
}

/** What an endpoint with a `batch_size` gets. */
export interface WebhookBatch {
  type: "batch";
  timestamp: string;
  data: WebhookEvent[];
}

type Given = Headers | Record<string, string | string[] | undefined>;

function header(headers: Given, name: string): string {
  const found =
    headers instanceof Headers
      ? headers.get(name)
      : Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  const value = Array.isArray(found) ? found[0] : found;
  if (!value) throw new SignatureError(`the header ${name} is missing`);
  return value;
}

function bytes(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/**
 * What was posted, once it is known to come from Throughline. `body` is as it came, byte for byte: not parsed and
 * written again. `secret` is the endpoint's, `whsec_...`.
 */
export async function verify(
  body: string | Uint8Array,
  headers: Given,
  secret: string,
  now: number = Date.now() / 1000,
): Promise<WebhookEvent | WebhookBatch> {
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  if (!/^\d+$/.test(timestamp) || Math.abs(now - Number(timestamp)) > TOLERANCE) {
    throw new SignatureError("the timestamp is too far from now");
  }
  const text = typeof body === "string" ? body : new TextDecoder().decode(body);
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${text}`);
  let key: CryptoKey;
  try {
    const raw = bytes(secret.replace(/^whsec_/, ""));
    key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  } catch {
    throw new SignatureError("the secret is not one of an endpoint");
  }
  // several, apart by blanks, while a secret is being changed
  for (const signature of signatures.split(" ")) {
    if (!/^v1,[A-Za-z0-9+/]+=*$/.test(signature)) continue;
    if (await crypto.subtle.verify("HMAC", key, bytes(signature.slice(3)), signed)) {
      return JSON.parse(text) as WebhookEvent | WebhookBatch;
    }
  }
  throw new SignatureError("no signature is the secret's");
}
