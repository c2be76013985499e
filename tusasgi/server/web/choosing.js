// Files that people choose, or drop alone and in folders.

const BY_NAME = new Intl.Collator(undefined, { numeric: true })

/**
 * Call `take(files)` when files are chosen in one of the inputs or dropped on the drop zone.
 *
 * `files` is iterable or async iterable: a folder may hold thousands of them, and is read as they
 * are taken. `cannotRead(name)` hears of what cannot be read there.
 */
export function onFiles({ inputs, zone, take, cannotRead }) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      const chosen = [...input.files]
      input.value = "" // so that the same file can be chosen again
      take(chosen)
    })
  }
  for (const type of ["dragover", "drop"]) {
    // A file that misses the drop zone must not replace the page.
    window.addEventListener(type, (event) => event.preventDefault())
  }
  for (const type of ["dragover", "dragleave", "drop"]) {
    zone.addEventListener(type, (event) => zone.classList.toggle("over", event.type === "dragover"))
  }
  zone.addEventListener("drop", (event) => {
    // Here and now: when the event is over, the browser forgets what was dropped.
    const dropped = [...event.dataTransfer.items].filter((item) => item.kind === "file")
    take(filesIn(dropped.map((item) => item.webkitGetAsEntry() ?? item.getAsFile()), cannotRead))
  })
}

/** Every file, those in folders too, each folder in the order of its names. */
async function* filesIn(entries, cannotRead) {
  for (const entry of entries) {
    if (entry instanceof File) yield entry
    else if (entry.isDirectory) yield* filesIn(await entriesOf(entry, cannotRead), cannotRead)
    else yield* fileOf(entry, cannotRead)
  }
}

async function* fileOf(entry, cannotRead) {
  try {
    yield await new Promise((resolve, reject) => entry.file(resolve, reject))
  } catch (error) {
    if (!(error instanceof DOMException)) throw error
    cannotRead(entry.name)
  }
}

async function entriesOf(folder, cannotRead) {
  const reader = folder.createReader()
  const entries = []
  try {
    for (;;) {
      // A hundred at a time, until there are no more.
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))
      if (some.length === 0) break
      entries.push(...some)
    }
  } catch (error) {
    if (!(error instanceof DOMException)) throw error
    cannotRead(folder.name)
  }
  return entries.sort((one, other) => BY_NAME.compare(one.name, other.name))
}
