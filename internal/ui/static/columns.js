// What the columns of the two tables show of an item. Everything in an event may be missing or of another type.
import { plain } from './dom.js';

const text = (v) => (typeof v === 'string' || typeof v === 'number' || typeof v === 'boolean' ? String(v) : '');
const obj = (v) => (v && typeof v === 'object' ? v : {});

export function time(item) {
  return item.time.replace('T', ' ').replace(/\.(\d{3})\d*Z$/, '.$1').replace('Z', '');
}

export function who(event) {
  const user = text(obj(event.user).username) || '(nobody)';
  const as = text(obj(event.impersonatedUser).username);
  return plain(as ? `${user} as ${as}` : user);
}

export function resource(event) {
  const r = obj(event.objectRef);
  const sub = text(r.subresource);
  const group = text(r.apiGroup);
  return plain((text(r.resource) || text(event.requestURI)) + (sub ? '/' + sub : '') + (group && group !== 'core' ? '.' + group : ''));
}

export function object(event) {
  const r = obj(event.objectRef);
  return plain([text(r.namespace), text(r.name)].filter(Boolean).join('/'));
}

function code(event) {
  return text(obj(event.responseStatus).code);
}

function peer(event) {
  const ips = Array.isArray(event.sourceIPs) ? event.sourceIPs : [];
  return plain(text(ips[ips.length - 1]));
}

/** codeClass colours refused and failed requests. */
export function codeClass(event) {
  const c = Number(code(event));
  return c >= 500 ? 'bad' : c === 401 || c === 403 ? 'denied' : c >= 400 ? 'warn' : '';
}

const severities = ['info', 'low', 'medium', 'high', 'critical'];

/** severityClass is a class of ours, never the event's text. */
export function severityClass(event) {
  return severities.includes(event.severity) ? 'sev-' + event.severity : '';
}

export const columns = {
  events: [
    ['Time (UTC)', (it) => time(it), 'time'],
    ['User', (it) => who(it.event), 'user'],
    ['Verb', (it) => plain(text(it.event.verb)), 'verb'],
    ['Resource', (it) => resource(it.event), 'resource'],
    ['Object', (it) => object(it.event), 'object'],
    ['Code', (it) => code(it.event), 'code'],
    ['From', (it) => peer(it.event), 'peer'],
  ],
  findings: [
    ['Time (UTC)', (it) => time(it), 'time'],
    ['Severity', (it) => plain(text(it.event.severity)), 'severity'],
    ['Rule', (it) => plain(text(it.event.title) || text(it.event.rule)), 'rule'],
    ['User', (it) => who(it.event), 'user'],
    ['Message', (it) => plain(text(it.event.message)), 'message'],
  ],
};

export const facets = {
  events: ['user', 'verb', 'resource', 'code'],
  findings: ['severity', 'rule', 'user'],
};
