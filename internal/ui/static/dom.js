// Small helpers that make elements. Text goes in as text nodes only: nothing here can make markup of it.

/** el makes an element with a class and children (elements or text). */
export function el(tag, cls, ...children) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  e.append(...children.map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

// Characters that would change what is around them, or show as nothing: controls, bidi overrides, zero-width ones.
const sly = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** plain shows such characters by their number, so that a name cannot pass for another one. */
export function plain(s) {
  return String(s ?? '').replace(sly, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
}

/** plainLines is plain for a text of our own server that has lines, such as an error with a caret under the place. */
export function plainLines(s) {
  return String(s ?? '').split('\n').map(plain).join('\n');
}

/** link is a link to an address on the web that somebody else wrote, and text where it is none: never a script's. */
export function link(address) {
  try {
    const u = new URL(address);
    if (u.protocol === 'https:' || u.protocol === 'http:') {
      return Object.assign(el('a', '', plain(address)), { href: u.href, target: '_blank', rel: 'noopener noreferrer' });
    }
  } catch {
    // no address
  }
  return el('span', '', plain(address));
}

/** svg makes an SVG element with attributes. */
export function svg(tag, attrs, ...children) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
