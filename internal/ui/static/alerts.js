// The alerts that are going on, the silences, and how the receivers fare.
import { del, get, post } from './api.js';
import { severityClass } from './columns.js';
import { el, link, plain } from './dom.js';
import { quoted } from './overview.js';

const $ = (id) => document.getElementById(id);
const every = 30_000; // ms between refreshes
const severities = ['critical', 'high', 'medium', 'low', 'info'];
const told = ['summary', 'description', 'command', 'runbook']; // annotations with a place of their own
const noted = ['count', 'first_event', 'last_event', 'first_time', 'last_time', 'link', 'user', 'namespace', 'resource', 'source_ip'];

const state = { me: null, fail: null, timer: 0, run: null };

/** openAlerts shows the page and keeps it fresh until closeAlerts. me is who looks at it; onFail gets what is no answer. */
export function openAlerts(me, onFail) {
  closeAlerts();
  Object.assign(state, { me, fail: onFail, run: new AbortController() });
  $('alerts').hidden = false;
  refresh();
}

export function closeAlerts() {
  clearTimeout(state.timer);
  state.run?.abort();
  state.run = null;
  $('alerts').hidden = true;
  for (const id of ['alerts-list', 'silences', 'receivers']) $(id).replaceChildren();
}

async function refresh() {
  clearTimeout(state.timer);
  const signal = state.run?.signal;
  if (!signal) return;
  await load(signal);
  if (!signal.aborted) state.timer = setTimeout(again, every);
}

// What somebody writes or selects must not vanish, and nobody looks at a page that is not shown.
function again() {
  if ($('alerts').querySelector('form') || document.hidden || !document.getSelection().isCollapsed) state.timer = setTimeout(again, every);
  else refresh();
}

async function load(signal) {
  const parts = [
    ['alerts-list', get('alerts', {}, signal), (a) => groups(a.items)],
    ['silences', get('/api/v2/silences', {}, signal), silences],
    ['receivers', get('receivers', {}, signal), (r) => receivers(r.items)],
  ];
  const answers = await Promise.allSettled(parts.map(([, answer]) => answer));
  if (signal.aborted) return;
  const lost = answers.find((a) => a.reason?.status === 401);
  if (lost) {
    state.fail(lost.reason);
    return;
  }
  $('problem').hidden = true;
  const key = $('alerts').contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  answers.forEach((a, i) => {
    const [id, , draw] = parts[i];
    $(id).replaceChildren(...(a.status === 'fulfilled' ? draw(a.value) : [explain(a.reason)]));
  });
  if (key) focus(key);
  say(answers);
}

// focus goes to what was drawn again, so that who uses the keyboard stays where they were.
function focus(key) {
  const same = [...$('alerts').querySelectorAll('[data-key]')].find((e) => e.dataset.key === key);
  (same ?? $('alerts-refresh')).focus({ preventScroll: Boolean(same) });
}

// control names e for screen readers, who meet many of its kind, and for focus.
function control(e, label, key) {
  e.setAttribute('aria-label', plain(label));
  e.dataset.key = key;
  return e;
}

function explain(err) {
  return el('p', 'dim', plain(err.message) + (err.hint ? ' — ' + plain(err.hint) : ''));
}

function say([alerts, , rec]) {
  const items = alerts.value?.items ?? [];
  const loud = items.filter((a) => !quiet(a)).length;
  const s = alerts.status === 'fulfilled' ? `${loud} firing, ${items.length - loud} kept quiet` : '';
  const failing = (rec.value?.items ?? []).filter((r) => r.failing_since).length;
  const bad = failing ? el('b', 'failing', ` — ${failing} of the receivers ${failing === 1 ? 'fails' : 'fail'}: see below`) : '';
  $('status').replaceChildren(s, bad);
}

const quiet = (a) => a.silenced || a.inhibited_by?.length > 0;
const may = () => state.me.scopes.some((s) => s === 'operate' || s === 'admin');

function when(iso) {
  const d = new Date(iso);
  return Number.isNaN(d.getTime()) ? '' : d.toISOString().slice(0, 19).replace('T', ' ');
}

function button(text, title, onClick) {
  const b = el('button', 'quiet', text);
  b.type = 'button';
  b.title = title;
  b.addEventListener('click', onClick);
  return b;
}

// --- alerts, grouped by name

const rank = (a) => severities.indexOf(a.labels.severity) + 1 || severities.length + 1;

function groups(items) {
  if (!items.length) return [el('p', 'dim', 'No alert is going on.')];
  const byName = new Map();
  const order = (a, b) => quiet(a) - quiet(b) || rank(a) - rank(b) || b.starts_at.localeCompare(a.starts_at);
  for (const a of [...items].sort(order)) {
    const name = a.labels.alertname ?? '';
    byName.set(name, [...(byName.get(name) ?? []), a]);
  }
  return [...byName].map(([name, alerts]) => {
    const total = alerts.reduce((n, a) => n + a.count, 0);
    const severity = el('span', 'severity', plain(alerts[0].labels.severity));
    const head = el('h3', severityClass(alerts[0].labels), severity, ' ', el('span', 'value', plain(name)), ' ', el('span', 'dim', several(alerts.length, 'alert') + ', ' + several(total, 'finding')));
    return el('section', 'group', head, ...alerts.map(alert));
  });
}

const several = (n, what) => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

function alert(a) {
  const facts = el('div', 'facts', el('span', 'time', 'since ' + when(a.starts_at)), el('span', '', several(a.count, 'finding')));
  if (a.labels.severity) facts.append(el('span', severityClass(a.labels), el('span', 'severity', plain(a.labels.severity))));
  if (a.silenced) facts.append(el('b', 'dim', 'silenced'));
  if (a.inhibited_by?.length) facts.append(el('b', 'dim', 'kept quiet by another alert'));
  for (const name of Object.keys(a.labels).sort()) {
    if (name !== 'alertname' && name !== 'severity') facts.append(pair(name, a.labels[name]));
  }
  const box = el('article', 'alert' + (quiet(a) ? ' quieted' : ''), facts, ...words(a.annotations ?? {}));
  const title = a.annotations?.summary || a.labels.alertname;
  const found = control(el('a', '', 'Findings'), 'Findings: ' + title, a.fingerprint + ' findings');
  found.href = findingsOf(a);
  const acts = el('div', 'acts', found);
  const key = a.fingerprint + ' silence';
  if (may()) acts.append(control(button('Silence', 'Keep this alert quiet for a while', () => silenceForm(a, box, key)), 'Silence: ' + title, key));
  if (a.receivers?.length) acts.append(el('span', 'dim', 'to ' + plain(a.receivers.join(', '))));
  box.append(acts);
  return box;
}

function pair(name, value) {
  return el('span', 'pair', el('span', 'key', plain(name)), '=', el('span', 'value', plain(value)));
}

/** words are the annotations. Whoever made the findings wrote into them: a link goes to the web or is text. */
function words(notes) {
  const out = [];
  if (notes.summary) out.push(el('p', 'summary', plain(notes.summary)));
  if (notes.description && notes.description !== notes.summary) out.push(el('p', 'dim', plain(notes.description)));
  if (notes.command) out.push(el('p', '', el('code', '', plain(notes.command))));
  if (notes.runbook) out.push(el('p', '', 'Runbook: ', link(notes.runbook)));
  const rest = Object.keys(notes).filter((k) => !told.includes(k) && !noted.includes(k)).sort();
  if (rest.length) out.push(el('div', 'facts', ...rest.map((k) => pair(k, notes[k]))));
  return out;
}

/** findingsOf is the address of an alert's findings on this page: what the server says, else those of its rule. */
function findingsOf(a) {
  try {
    const u = new URL(a.link, location.origin);
    if (u.searchParams.get('show') === 'findings') return '/' + u.search;
  } catch {
    // no address: made here
  }
  const p = new URLSearchParams({ show: 'findings', q: a.labels.rule ? 'rule:' + quoted(a.labels.rule) : '', from: a.first_event ?? a.starts_at });
  return '/?' + p;
}

// --- silences

const lengths = [['1 hour', 1], ['4 hours', 4], ['1 day', 24]];

function silenceForm(a, box, key) {
  if (box.querySelector('form')) return;
  const boxes = Object.keys(a.labels).sort().map((name) => {
    const check = el('input', '');
    check.type = 'checkbox';
    check.name = name;
    check.checked = true;
    return el('label', 'pair', check, ' ', pair(name, a.labels[name]));
  });
  const comment = el('input', 'comment');
  Object.assign(comment, { placeholder: 'Why? Whoever finds the silence wants to know', required: true, maxLength: 1000, autocomplete: 'off' });
  comment.setAttribute('aria-label', 'Comment');
  const times = lengths.map(([text, hours]) => Object.assign(el('button', '', text), { value: String(hours), ariaLabel: 'Silence for ' + text }));
  const close = () => {
    form.remove();
    focus(key);
  };
  const form = el('form', 'silence', el('p', 'dim', 'Silence every alert with all of these labels:'), el('div', 'facts', ...boxes), comment, 'for', ...times,
    button('Cancel', 'Leave it as it is', close));
  form.setAttribute('aria-label', 'Silence');
  form.addEventListener('keydown', (ev) => {
    if (ev.key === 'Escape') close();
  });
  const error = el('p', 'error', '');
  error.setAttribute('role', 'alert');
  form.append(error);
  form.addEventListener('submit', async (ev) => {
    ev.preventDefault();
    const names = [...form.querySelectorAll('input:checked')].map((c) => c.name);
    if (!names.length) {
      error.textContent = 'Choose a label at least.';
      return;
    }
    try {
      await silence(names.map((name) => ({ name, value: a.labels[name], isRegex: false, isEqual: true })), Number(ev.submitter?.value || 1), comment.value.trim());
      close();
      refresh();
    } catch (err) {
      error.textContent = plain(err.message) + (err.hint ? ' — ' + plain(err.hint) : '');
    }
  });
  box.append(form);
  comment.focus();
}

function silence(matchers, hours, comment) {
  const now = Date.now();
  return post('/api/v2/silences', {
    matchers, comment, createdBy: state.me.name, startsAt: new Date(now).toISOString(), endsAt: new Date(now + hours * 3_600_000).toISOString(),
  });
}

const operator = (m) => (m.isEqual === false ? '!' : '=') + (m.isRegex ? '~' : m.isEqual === false ? '=' : '');

function silences(all) {
  const list = all.filter((s) => s.status?.state !== 'expired').sort((a, b) => a.endsAt.localeCompare(b.endsAt));
  if (!list.length) return [el('p', 'dim', 'None.')];
  return [table('Silences', ['Until (UTC)', 'By', 'Matches', 'Why', ''], list.map((s) => {
    const matchers = s.matchers.map((m) => m.name + operator(m) + quoted(m.value)).join(' ');
    const until = when(s.endsAt) + (s.status?.state === 'pending' ? `, from ${when(s.startsAt)}` : '');
    const end = may() ? control(button('Expire', 'End this silence now', () => expire(s.id)), `Expire: ${matchers}, ${s.comment}`, s.id) : '';
    return el('tr', '', ...[until, s.createdBy, matchers, s.comment].map((t) => el('td', '', plain(t))), el('td', '', end));
  }))];
}

async function expire(id) {
  try {
    await del('/api/v2/silence/' + encodeURIComponent(id));
    refresh();
  } catch (err) {
    state.fail(err);
  }
}

// --- receivers; the server has those first that fail

function receivers(items) {
  if (!items.length) return [el('p', 'dim', 'There are none.')];
  return [table('Receivers', ['Receiver', 'Kind', 'Arrived', 'Failed', 'State'], items.map((r) => {
    const failing = Boolean(r.failing_since);
    let text = r.last_ok ? 'last arrived ' + when(r.last_ok) : 'nothing was sent yet';
    if (failing) text = `fails since ${when(r.failing_since)}: ${r.last_error?.trim() || 'no reason was given'}`;
    const cells = [r.receiver, r.kind, r.ok_total.toLocaleString('en'), r.failed_total.toLocaleString('en'), text];
    return el('tr', failing ? 'failing' : '', ...cells.map((t) => el('td', '', plain(t))));
  }))];
}

function table(label, titles, rows) {
  for (const r of rows) titles.forEach((t, i) => t && (r.cells[i].dataset.title = t)); // on a narrow screen there is no head
  const heads = titles.map((t) => Object.assign(el('th', '', t), { scope: 'col' }));
  const all = el('table', 'plain', el('thead', '', el('tr', '', ...heads)), el('tbody', '', ...rows));
  all.setAttribute('aria-label', label);
  return all;
}

$('alerts-refresh').addEventListener('click', refresh);
