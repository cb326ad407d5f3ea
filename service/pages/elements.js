// Helpers to find and create elements of a page.

export const $ = (id) => document.getElementById(id);

export function element(name, properties, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children.filter((child) => child !== null));
  return created;
}

/** Return true if `values` differ from those of the last call with this `holder`. */
export function hasChanged(holder, values) {
  const json = JSON.stringify(values);
  const same = holder.dataset.values === json;
  holder.dataset.values = json;
  return !same;
}

/** Set the options of a menu from [value, text] pairs. It keeps its value, else takes `preferred`. */
export function setOptions(select, options, preferred) {
  const before = select.value;
  if (!hasChanged(select, options)) return;  // an open menu stays open
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  const values = options.map(([value]) => value);
  select.value = values.includes(before) ? before : preferred ?? values[0];
}
