// What to say where a search found nothing, and what to try next.
import { get } from './api.js';
import { el } from './dom.js';

/** nothing gives elements that say it. It looks whether the same search finds something at another time. */
export async function nothing(set, selection, signal, onAllTime) {
  if (selection.from || selection.to) {
    const { items } = await get(set, { q: selection.q, limit: 1 }, signal);
    if (items.length) {
      const newest = items[0].time.slice(0, 19).replace('T', ' ');
      const button = el('button', '', 'Search all time');
      button.addEventListener('click', onAllTime);
      return [el('p', '', `Nothing in this range of time. The newest match is of ${newest} UTC.`), button];
    }
  }
  return hints(set, selection.q).map((words) => el('p', '', words));
}

function hints(set, q) {
  if (q) {
    return [
      'Nothing matches, at any time.',
      'Values match whole and with their case: user:alice finds alice alone, user:alice* also alice@example.com. A word without a field, such as alice, is looked for everywhere.',
      'Fields have the names that they have in the event: open one to see them. The search language is described in docs/reference/query.md.',
    ];
  }
  if (set === 'findings') return ['The rules have found nothing yet.'];
  return [
    'No event has arrived yet.',
    'Connect an API server (whodunit webhook-config; docs/how-to/connect-an-api-server.md), or read old log files (whodunit import; docs/how-to/import-old-logs.md).',
  ];
}
