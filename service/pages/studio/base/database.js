// What the page keeps in the browser, in IndexedDB: images of the gallery, open jobs, settings.

const NAME = "darkroom-studio";
const VERSION = 1;
let opened = null;

function open() {
  opened ??= new Promise((done, failed) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      const images = request.result.createObjectStore("images", { keyPath: "id" });
      images.createIndex("created", "created");
      request.result.createObjectStore("jobs", { keyPath: "id" });
      request.result.createObjectStore("settings");
    };
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  return opened;
}

async function run(store, mode, action) {
  const transaction = (await open()).transaction(store, mode);
  const request = action(transaction.objectStore(store));
  return new Promise((done, failed) => {
    transaction.oncomplete = () => done(request?.result);
    transaction.onabort = transaction.onerror = () => failed(transaction.error);
  });
}

export const put = (store, value, key) => run(store, "readwrite", (s) => s.put(value, key));
export const get = (store, key) => run(store, "readonly", (s) => s.get(key));
export const all = (store) => run(store, "readonly", (s) => s.getAll());
export const remove = (store, key) => run(store, "readwrite", (s) => s.delete(key));

/** Return up to `limit` images, the newest first, older than the image `before` and accepted by `wanted`. */
export async function newestImages(limit, before, wanted) {
  const index = (await open()).transaction("images").objectStore("images").index("created");
  const range = before === undefined ? null : IDBKeyRange.upperBound(before, true);
  const found = [];
  return new Promise((done, failed) => {
    const request = index.openCursor(range, "prev");
    request.onerror = () => failed(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor || found.length === limit) return done(found);
      if (wanted(cursor.value)) found.push(cursor.value);
      cursor.continue();
    };
  });
}
