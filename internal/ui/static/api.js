// What the page asks the server.

/** Problem is an error that the server explains (RFC 9457), or Alertmanager's API in its own way. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || body.message || (typeof body === 'string' && body) || `the server answers ${status}`);
    this.status = status;
    this.hint = body.hint || '';
  }
}

async function check(resp) {
  if (resp.ok) return resp;
  let body = {};
  try {
    body = await resp.json();
  } catch {
    // not from our server: the status is all there is
  }
  throw new Problem(resp.status, body);
}

// A path that begins with / is taken as it is.
function address(path, params) {
  const u = new URL(path.startsWith('/') ? path : '/api/v1/' + path, location.origin);
  for (const [name, value] of Object.entries(params)) {
    if (value !== '' && value !== undefined) u.searchParams.set(name, value);
  }
  return u;
}

export async function get(path, params = {}, signal) {
  return (await check(await fetch(address(path, params), { signal, headers: { Accept: 'application/json' } }))).json();
}

export async function getText(path, params = {}) {
  return (await check(await fetch(address(path, params)))).text();
}

export async function post(path, body) {
  return check(await fetch(address(path, {}), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body ?? {}) }));
}

export async function del(path) {
  return check(await fetch(address(path, {}), { method: 'DELETE' }));
}

/** lines reads a stream of JSON lines to its end and calls on for each. */
export async function lines(path, params, signal, on) {
  const resp = await check(await fetch(address(path, params), { signal, headers: { Accept: 'application/x-ndjson' } }));
  const reader = resp.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    for (const p of parts) if (p) on(JSON.parse(p));
  }
}
