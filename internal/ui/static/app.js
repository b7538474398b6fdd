// The page: log in, search, look at one event, follow live. Alerts have a module of their own.
import { closeAlerts, openAlerts } from './alerts.js';
import { get, getText, lines, post } from './api.js';
import { codeClass, columns, object, resource, severityClass, who } from './columns.js';
import { el, plain, plainLines } from './dom.js';
import { nothing } from './nothing.js';
import { clear, overview, quoted } from './overview.js';
import { tree } from './tree.js';

const $ = (id) => document.getElementById(id);
const pageSize = 100;
const maxRows = 2000; // of a live tail: older ones go

const state = { set: 'events', items: [], next: '', chosen: -1, running: null, live: null, selection: {}, me: null };

// --- where we are, kept in the address so that it can be shared and the back button works

function readAddress() {
  const p = new URLSearchParams(location.search);
  state.set = ['findings', 'alerts'].includes(p.get('show')) ? p.get('show') : 'events';
  if (/^#\/(alerts|silences)/.test(location.hash)) state.set = 'alerts'; // as templates made for Alertmanager's own page link to it
  $('q').value = p.get('q') || '';
  const from = p.get('from') ?? 'now-24h';
  const known = [...$('since').options].some((o) => o.value === from && o.value !== 'custom');
  $('since').value = known && !p.get('to') ? from : 'custom';
  $('from').value = from;
  $('to').value = p.get('to') || '';
  $('custom').hidden = $('since').value !== 'custom';
}

function address() {
  const s = selection();
  const p = new URLSearchParams();
  if (state.set !== 'events') p.set('show', state.set);
  if (state.set !== 'alerts') {
    if (s.q) p.set('q', s.q);
    p.set('from', s.from);
    if (s.to) p.set('to', s.to);
  }
  return '?' + p;
}

function writeAddress() {
  if (address() !== location.search) history.pushState(null, '', address());
}

/** arrive shows what the address says. The address is put as we write it, in its place: a step back has to lead away. */
function arrive() {
  readAddress();
  history.replaceState(null, '', address());
  go();
}

function selection() {
  const since = $('since').value;
  const custom = since === 'custom';
  return { q: $('q').value.trim(), from: custom ? $('from').value.trim() : since, to: custom ? $('to').value.trim() : '' };
}

/** go shows what state.set says. */
function go() {
  const alerts = state.set === 'alerts';
  for (const id of ['search', 'overview', 'columns', 'keys']) $(id).hidden = alerts;
  for (const set of ['events', 'findings', 'alerts']) $('tab-' + set).setAttribute('aria-pressed', String(set === state.set));
  if (!alerts) {
    closeAlerts();
    search();
    return;
  }
  stopLive();
  state.running?.abort();
  closePane();
  writeAddress();
  $('problem').hidden = true;
  $('status').textContent = '';
  openAlerts(state.me, fail);
}

// --- searching

async function search() {
  stopLive();
  writeAddress();
  state.running?.abort();
  const run = (state.running = new AbortController());
  state.selection = selection();
  state.items = [];
  state.next = '';
  show(-1);
  closePane();
  drawHead();
  $('rows').replaceChildren();
  $('nothing').replaceChildren();
  $('problem').hidden = true;
  $('status').textContent = 'searching…';
  try {
    await page(run.signal);
    const count = await overview(state.set, state.selection, run.signal, addFilter, setRange);
    if (run.signal.aborted) return;
    say(count);
    if (state.items.length) return;
    const words = await nothing(state.set, state.selection, run.signal, allTime);
    if (!run.signal.aborted && !state.items.length) $('nothing').replaceChildren(...words);
  } catch (err) {
    if (run.signal.aborted) return;
    clear();
    fail(err);
  }
}

async function page(signal) {
  const p = await get(state.set, { ...state.selection, limit: pageSize, cursor: state.next }, signal);
  if (signal?.aborted) return;
  const start = state.items.length;
  state.items.push(...p.items);
  state.next = p.next || '';
  $('rows').append(...p.items.map((it, i) => row(it, start + i)));
  $('more').hidden = !state.next;
  state.stats = p.stats;
  say();
}

function say(count) {
  if (count !== undefined) state.count = count;
  else if (state.items.length <= pageSize) state.count = undefined;
  const shown = state.items.length.toLocaleString('en');
  let s = state.items.length ? `${shown} shown` : 'nothing matches';
  if (state.count !== undefined && state.items.length) s = `${shown} of ${state.count.toLocaleString('en')} shown`;
  if (state.stats?.damaged || state.stats?.unreadable) s += ' — some stored data cannot be read: the answer may lack events';
  $('status').textContent = s;
}

function fail(err) {
  if (err.status === 401) {
    showLogin();
    return;
  }
  $('problem').textContent = plainLines(err.message) + (err.hint ? '\n' + plain(err.hint) : '');
  $('problem').hidden = false;
  $('status').textContent = '';
}

function addFilter(field, value) {
  const part = value === '' ? `not ${field}:*` : `${field}:${quoted(value)}`;
  const q = $('q').value.trim();
  $('q').value = q ? `(${q}) and ${part}` : part;
  search();
}

function allTime() {
  $('since').value = '';
  $('custom').hidden = true;
  search();
}

function setRange(from, to) {
  $('since').value = 'custom';
  $('custom').hidden = false;
  $('from').value = from;
  $('to').value = to;
  search();
}

// --- the table

function drawHead() {
  const tr = el('tr', '');
  for (const [title, , cls] of columns[state.set]) {
    const th = el('th', cls, title);
    th.scope = 'col';
    tr.append(th);
  }
  $('head').replaceChildren(tr);
}

function row(item) {
  const tr = el('tr', codeClass(item.event) + ' ' + severityClass(item.event));
  for (const [, value, cls] of columns[state.set]) {
    const v = value(item);
    const td = el('td', cls, v);
    td.title = v;
    tr.append(td);
  }
  tr.addEventListener('click', () => {
    show(state.items.indexOf(item));
    openPane();
  });
  return tr;
}

function show(i) {
  const rows = $('rows').children;
  rows[state.chosen]?.removeAttribute('aria-selected');
  state.chosen = i;
  if (!rows[i]) return;
  rows[i].setAttribute('aria-selected', 'true');
  rows[i].scrollIntoView({ block: 'nearest' });
}

// --- one event in full

function openPane() {
  const item = state.items[state.chosen];
  if (!item) return;
  const e = item.event;
  $('pane-title').textContent = [who(e), plain(e.verb), resource(e), object(e)].join(' ');
  const facts = { cluster: item.cluster, source: item.source, ingested: item.ingested, identity: item.identity, seq: item.seq };
  const dl = el('dl', '');
  for (const [k, v] of Object.entries(facts)) dl.append(el('dt', '', k), el('dd', '', plain(v)));
  const parts = [dl];
  if (item.flags & 1) parts.push(el('p', 'warn', 'Another event with the same auditID came before, with other content.'));
  parts.push(tree(e, 2));
  $('pane-body').replaceChildren(...parts);
  $('pane').hidden = false;
  $('pane-raw').setAttribute('aria-pressed', 'false');
  $('pane-evidence').hidden = !evidence(e).length;
}

/** evidence gives the audit ids of the events that a finding rests on. */
function evidence(e) {
  return Array.isArray(e.events) ? e.events.map((ev) => ev?.auditID).filter((id) => typeof id === 'string' && id) : [];
}

// The audit id, not the identity: it also shows the request's other stages, and can be shared as a search.
function showEvidence() {
  const ids = evidence(state.items[state.chosen]?.event ?? {});
  if (!ids.length) return;
  state.set = 'events';
  $('q').value = `auditID:(${ids.map(quoted).join(' or ')})`;
  $('since').value = '';
  $('custom').hidden = true;
  go();
}

function closePane() {
  $('pane').hidden = true;
  $('pane-body').replaceChildren();
}

// The tree is made of what JavaScript reads, whose numbers end at 2^53; this is what the server has, to the byte.
async function exact() {
  const item = state.items[state.chosen];
  // An event without a time of its own stands at 1970, which is no time to search at.
  const time = item.time.startsWith('1970-01-01T00:00:00') ? '' : item.time;
  const text = await getText(`${state.set}/${item.identity}`, { time });
  return text.trimEnd();
}

async function toggleRaw() {
  if ($('pane-raw').getAttribute('aria-pressed') === 'true') {
    openPane();
    return;
  }
  try {
    $('pane-body').replaceChildren(el('pre', '', plain(await exact())));
    $('pane-raw').setAttribute('aria-pressed', 'true');
  } catch (err) {
    fail(err);
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(await exact());
    $('status').textContent = 'copied';
  } catch (err) {
    fail(err);
  }
}

// --- live

function stopLive() {
  state.live?.abort();
  state.live = null;
  $('live').checked = false;
}

async function startLive() {
  state.live?.abort();
  const run = (state.live = new AbortController());
  $('live').checked = true;
  let count = 0;
  let dropped = 0;
  $('status').textContent = 'live: waiting for events';
  try {
    await lines(state.set + '/tail', { q: $('q').value.trim() }, run.signal, (line) => {
      if (line.error) throw Object.assign(new Error(line.error.detail || line.error.title), line.error);
      if (line.dropped) dropped += line.dropped;
      if (line.identity) {
        count++;
        prepend(line);
      }
      $('status').textContent = `live: ${count} new` + (dropped ? `, ${dropped} left out because this page was too slow` : '');
    });
    throw new Error('the live connection ended');
  } catch (err) {
    if (run.signal.aborted) return;
    stopLive();
    fail(err);
  }
}

function prepend(item) {
  $('nothing').replaceChildren();
  state.items.unshift(item);
  $('rows').prepend(row(item));
  if (state.chosen >= 0) state.chosen++;
  if (state.items.length > maxRows) {
    state.items.pop();
    $('rows').lastElementChild.remove();
    state.next = ''; // what follows is no longer next to what is shown
    $('more').hidden = true;
  }
}

// --- who

function showLogin() {
  stopLive();
  $('app').hidden = true;
  $('rows').replaceChildren(); // nobody should read over the login form's shoulder
  closePane();
  closeAlerts();
  $('login').hidden = false;
  $('login-password').value = '';
  $('login-user').focus();
}

async function enter() {
  try {
    state.me = await get('whoami');
    $('user').textContent = plain(state.me.name);
  } catch (err) {
    if (err.status !== 401) $('login-error').textContent = plain(err.message);
    showLogin();
    return;
  }
  $('login').hidden = true;
  $('app').hidden = false;
  arrive();
}

$('login-form').addEventListener('submit', async (ev) => {
  ev.preventDefault();
  $('login-error').textContent = '';
  try {
    await post('login', { user: $('login-user').value, password: $('login-password').value });
    enter();
  } catch (err) {
    $('login-error').textContent = plain(err.message) + (err.hint ? ' — ' + plain(err.hint) : '');
  }
});
$('logout').addEventListener('click', async () => {
  try {
    await post('logout');
    showLogin();
  } catch (err) {
    fail(err);
  }
});

$('search').addEventListener('submit', (ev) => {
  ev.preventDefault();
  search();
});
$('since').addEventListener('change', () => {
  const custom = $('since').value === 'custom';
  $('custom').hidden = !custom;
  if (!custom) search();
});
for (const set of ['events', 'findings', 'alerts']) {
  $('tab-' + set).addEventListener('click', () => {
    state.set = set;
    go();
  });
}
$('more').addEventListener('click', () => page(state.running?.signal).catch(fail));
$('live').addEventListener('change', () => ($('live').checked ? startLive() : stopLive()));
$('pane-close').addEventListener('click', closePane);
$('pane-evidence').addEventListener('click', showEvidence);
$('pane-raw').addEventListener('click', toggleRaw);
$('pane-copy').addEventListener('click', copy);
window.addEventListener('popstate', arrive);

document.addEventListener('keydown', (ev) => {
  if ($('app').hidden || state.set === 'alerts' || ev.ctrlKey || ev.metaKey || ev.altKey) return;
  const typing = ev.target.matches('input, select, textarea');
  if (ev.key === 'Escape') {
    if (!$('pane').hidden) closePane();
    else ev.target.blur();
    return;
  }
  if (typing && !(ev.target === $('q') && ev.key === 'ArrowDown')) return;
  switch (ev.key) {
    case '/':
      $('q').focus();
      $('q').select();
      break;
    case 'ArrowDown':
    case 'ArrowUp': {
      if (!$('pane').hidden && $('pane').contains(ev.target)) return;
      const i = Math.max(0, Math.min(state.items.length - 1, state.chosen + (ev.key === 'ArrowDown' ? 1 : -1)));
      $('q').blur();
      show(i);
      if (!$('pane').hidden) openPane();
      break;
    }
    case 'Enter':
      if (ev.target.matches('button, summary')) return;
      openPane();
      break;
    default:
      return;
  }
  ev.preventDefault();
});

enter();
