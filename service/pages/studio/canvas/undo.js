// Changes that can be undone, within a limit of memory.

const MAX_BYTES = 128 * 2 ** 20;

export class UndoStack {
  constructor(onchange = () => {}) {
    this.onchange = onchange;
    this.clear();
  }

  clear() {
    this.done = [];
    this.undone = [];
    this.onchange();
  }

  /** Add a change: {bytes, undo(), redo()}. The oldest are dropped beyond the limit. */
  push(change) {
    this.done.push(change);
    this.undone = [];
    let bytes = this.done.reduce((sum, each) => sum + each.bytes, 0);
    while (bytes > MAX_BYTES && this.done.length > 1) bytes -= this.done.shift().bytes;
    this.onchange();
  }

  undo() {
    const change = this.done.pop();
    if (!change) return;
    change.undo();
    this.undone.push(change);
    this.onchange();
  }

  redo() {
    const change = this.undone.pop();
    if (!change) return;
    change.redo();
    this.done.push(change);
    this.onchange();
  }
}
