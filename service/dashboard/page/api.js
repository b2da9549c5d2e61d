// The doors. The key is kept for as long as the tab is open, and sent nowhere else.

const SLOT = "bandit-router-key";
export const key = () => sessionStorage.getItem(SLOT);
export const keep = (value) => value ? sessionStorage.setItem(SLOT, value) : sessionStorage.removeItem(SLOT);

/** What a door refused, with its status and its own words. */
export class Refused extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function call(path, options = {}) {
  const headers = { accept: "application/json" };
  if (key()) headers.authorization = `Bearer ${key()}`;
  if (options.body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, {
    method: options.method ?? "GET",
    headers,
    body: options.body === undefined ? undefined : JSON.stringify(options.body),
    signal: options.signal ?? AbortSignal.timeout(20000),
    credentials: "omit",
    cache: "no-store",
  });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) {
    throw new Refused(answer.status, body?.error?.message ?? `the service answered ${answer.status}`, body?.error?.code);
  }
  return body;
}

/** A path with those parameters that have a value. */
export function path(base, parameters) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return query.size ? `${base}?${query}` : base;
}

/** What a door has, or null where there is no such door, or this key may not use it. */
export async function maybe(where) {
  try {
    return await call(where);
  } catch (error) {
    if (error instanceof Refused && [403, 404, 405].includes(error.status)) return null;
    throw error;
  }
}
