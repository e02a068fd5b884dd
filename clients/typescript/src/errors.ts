// What may go wrong, as typed errors.

/** A field and what is wrong with it. */
export interface FieldProblem {
  field: string;
  reason: string;
}

/** A problem document (RFC 9457). */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  errors?: FieldProblem[];
  request_id?: string;
}

/** A call came to nothing. */
export class ApiError extends Error {
  override name = "ApiError";
}

/** Nobody answered, after all attempts. */
export class ConnectionFailedError extends ApiError {
  override name = "ConnectionFailedError";
}

/** The API said no; `problem` is what it said. */
export class ProblemError extends ApiError {
  override name = "ProblemError";

  constructor(
    readonly status: number,
    readonly problem: Problem,
  ) {
    super(`${status}: ${problem.detail ?? problem.title ?? "no reason given"}`);
  }

  /** The last part of the problem's type, as in `not-found`. */
  get code(): string {
    return this.problem.type?.split(/[/:]/).pop() ?? "";
  }

  /** The fields at fault. */
  get errors(): FieldProblem[] {
    return this.problem.errors ?? [];
  }
}

/** 401: no valid key. */
export class UnauthorizedError extends ProblemError {
  override name = "UnauthorizedError";
}

/** 403: the key lacks the scope. */
export class ForbiddenError extends ProblemError {
  override name = "ForbiddenError";
}

/** 404: there is no such thing. */
export class NotFoundError extends ProblemError {
  override name = "NotFoundError";
}

/** 409 or 412: it clashes with what is stored. */
export class ConflictError extends ProblemError {
  override name = "ConflictError";
}

/** 400, 413, 415 or 422: the request is not acceptable; `errors` names each field and the reason. */
export class InvalidError extends ProblemError {
  override name = "InvalidError";
}

/** 429: too many requests, after all attempts. */
export class RateLimitedError extends ProblemError {
  override name = "RateLimitedError";
}

/** 5xx: the API failed, after all attempts. */
export class ServerError extends ProblemError {
  override name = "ServerError";
}

const OF_STATUS: Record<number, typeof ProblemError> = {
  401: UnauthorizedError,
  403: ForbiddenError,
  404: NotFoundError,
  409: ConflictError,
  412: ConflictError,
  429: RateLimitedError,
};

/** The error that an answer stands for. */
export async function errorOf(response: Response): Promise<ProblemError> {
  let problem: Problem = { title: response.statusText };
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null) problem = body as Problem;
  } catch {
    // no JSON: its status must do
  }
  const kind = OF_STATUS[response.status] ?? (response.status >= 500 ? ServerError : InvalidError);
  return new kind(response.status, problem);
}
