// A JSON value as a tree that opens and closes. Children are made when they are first shown, so a huge event costs little.
import { el, plain } from './dom.js';

const longText = 2000;
const manyChildren = 200;

/** tree makes the tree of a value; depth levels are open. */
export function tree(value, depth = 2) {
  const root = el('div', 'tree');
  entries(root, value, depth, 0, '');
  return root;
}

function entries(into, value, depth, from) {
  const all = Object.entries(value);
  for (const [name, v] of all.slice(from, from + manyChildren)) into.append(node(name, v, depth, Array.isArray(value)));
  if (all.length > from + manyChildren) {
    const more = el('button', 'quiet', `${all.length - from - manyChildren} more`);
    more.addEventListener('click', () => {
      more.remove();
      entries(into, value, depth, from + manyChildren);
    });
    into.append(more);
  }
}

function node(name, v, depth, inList) {
  const key = el('span', inList ? 'index' : 'key', plain(name));
  if (v === null || typeof v !== 'object') return el('div', 'leaf', key, ' ', scalar(v));
  const size = Object.keys(v).length;
  const what = Array.isArray(v) ? `[${size}]` : size ? '' : '{}';
  if (!size) return el('div', 'leaf', key, ' ', el('span', 'dim', what));
  const d = el('details', '', el('summary', '', key, ' ', el('span', 'dim', what)));
  const body = el('div', 'inner');
  d.append(body);
  let made = false;
  const make = () => {
    if (made) return;
    made = true;
    entries(body, v, depth - 1, 0);
  };
  d.addEventListener('toggle', () => d.open && make());
  if (depth > 0 && name !== 'managedFields') {
    make();
    d.open = true;
  }
  return d;
}

function scalar(v) {
  if (typeof v !== 'string') return el('span', 'num', JSON.stringify(v));
  if (v.length <= longText) return el('span', 'str', plain(v));
  const span = el('span', 'str', plain(v.slice(0, longText)));
  const more = el('button', 'quiet', `… ${v.length - longText} more characters`);
  more.addEventListener('click', () => {
    span.textContent = plain(v);
    more.remove();
  });
  return el('span', '', span, more);
}
