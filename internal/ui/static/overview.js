// The bar chart over time and the most frequent values above the table.
import { get } from './api.js';
import { facets } from './columns.js';
import { el, plain, svg } from './dom.js';

const width = 720;
const height = 64;

/** quoted writes a value so that the search language reads it back. */
export function quoted(v) {
  return '"' + v.replace(/[\\"]/g, '\\$&') + '"';
}

/** overview shows count, chart and facets of a selection; it gives the count. */
export async function overview(set, selection, signal, onFacet, onRange) {
  const h = await get(set + '/histogram', selection, signal);
  const count = h.buckets.reduce((n, b) => n + b.count, 0);
  chart(h, onRange);
  const box = document.getElementById('facets');
  const lists = await Promise.all(
    facets[set].map(async (field) => [field, (await get(set + '/top', { ...selection, field, n: 5 }, signal)).buckets]),
  );
  box.replaceChildren(...lists.map(([field, buckets]) => facet(field, buckets, onFacet)));
  return count;
}

/** clear takes away what an earlier search left. */
export function clear() {
  document.getElementById('chart').replaceChildren();
  document.getElementById('facets').replaceChildren();
}

function facet(field, buckets, onFacet) {
  const list = el('ul', '');
  for (const b of buckets) {
    const button = el('button', 'quiet', el('span', 'value', plain(b.value) || '(none)'), ' ', el('span', 'dim', b.count.toLocaleString('en')));
    button.title = 'Search for this alone';
    button.addEventListener('click', () => onFacet(field, b.value));
    list.append(el('li', '', button));
  }
  return el('div', 'facet', el('b', 'dim', field), list);
}

function chart(h, onRange) {
  const box = document.getElementById('chart');
  if (!h.buckets.length) {
    box.replaceChildren();
    return;
  }
  const first = Number(h.buckets[0].value);
  const last = Number(h.buckets[h.buckets.length - 1].value);
  const group = Math.max(1, Math.ceil(((last - first) / h.interval + 1) / 120)); // at most 120 bars
  const step = h.interval * group;
  const sums = new Map();
  for (const b of h.buckets) {
    const i = Math.floor((Number(b.value) - first) / step);
    sums.set(i, (sums.get(i) || 0) + b.count);
  }
  const n = Math.floor((last - first) / step) + 1;
  const top = Math.max(...sums.values());
  const bar = width / n;
  const s = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Over time, at most ${top} in one bar` });
  for (const [i, count] of sums) {
    const tall = Math.max(1, (count / top) * (height - 2));
    const from = new Date((first + i * step) / 1000).toISOString();
    const to = new Date((first + (i + 1) * step) / 1000).toISOString();
    const title = svg('title', {});
    title.textContent = `${minute(from)} to ${minute(to)} UTC: ${count.toLocaleString('en')}`;
    const rect = svg('rect', { x: i * bar, y: height - tall, width: Math.max(1, bar - 1), height: tall }, title);
    rect.addEventListener('click', () => onRange(from, to));
    s.append(rect);
  }
  const end = new Date((first + n * step) / 1000).toISOString();
  const begin = new Date(first / 1000).toISOString();
  box.replaceChildren(s, el('div', 'dim axis', el('span', '', minute(begin)), el('span', '', minute(end) + ' UTC')));
}

const minute = (iso) => iso.slice(0, 16).replace('T', ' ');
