// Finding and making elements of a page.

export const $ = (id) => document.getElementById(id);

export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Whether `values` are others than when this was last asked of `holder`. */
export function renewed(holder, values) {
  const told = JSON.stringify(values);
  const same = holder.dataset.values === told;
  holder.dataset.values = told;
  return !same;
}

/** Offer [value, text] pairs. What was chosen stays so, if it can; else `preferred` is chosen. */
export function fill(select, choices, preferred) {
  const before = select.value;
  if (!renewed(select, choices)) return;  // an open list is not closed for nothing
  select.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  const values = choices.map(([value]) => value);
  select.value = values.includes(before) ? before : preferred ?? values[0];
}
