// What this browser remembers of files; servers know only their bytes.

/** Name, size and time of files by what their uploads are known by; the newest ones are kept. */
export class Remembered {
  constructor(storageKey, most) {
    this.storageKey = storageKey
    this.most = most
  }

  all() {
    return JSON.parse(localStorage.getItem(this.storageKey) ?? "{}")
  }

  save(id, about) {
    const { [id]: _, ...others } = this.all()
    const newest = Object.entries({ ...others, [id]: about }).slice(-this.most)
    localStorage.setItem(this.storageKey, JSON.stringify(Object.fromEntries(newest)))
  }

  forget(id) {
    const { [id]: _, ...others } = this.all()
    localStorage.setItem(this.storageKey, JSON.stringify(others))
  }
}

export const about = (file) => ({ name: file.name, size: file.size, time: file.lastModified })

export const isSame = (one, other) => one.name === other.name && one.size === other.size && one.time === other.time
