// What the tabs of this browser tell each other of the uploads that each of them runs.

const EVERY = 1000 // milliseconds between two tellings of how far an upload is
const ASK = 5000
const SILENT = 15_000 // after this a tab is thought to be gone

/**
 * Tells other tabs of this one's uploads, and hears of theirs.
 *
 * An upload is told of as `{id, state, sent}`. `mine()` returns those that this tab runs;
 * `heard(upload)` is called for one of another tab, with the state null when it runs there no more.
 */
export class Tabs {
  constructor(name, { mine, heard }) {
    this.mine = mine
    this.heard = heard
    this.others = new Map() // when each upload of another tab was last heard of
    this.toldAt = 0
    this.channel = new BroadcastChannel(name)
    this.channel.addEventListener("message", ({ data }) => (data === "ask" ? this.tell() : this.hear(data)))
    this.hasLeft = false
    window.addEventListener("pagehide", () => this.leave())
    window.addEventListener("pageshow", () => this.comeBack())
    setInterval(() => this.check(), ASK)
  }

  /** Have the others tell of theirs. */
  ask() {
    this.channel.postMessage("ask")
  }

  tell() {
    this.toldAt = performance.now()
    this.post(this.mine())
  }

  /** Tell of progress, which is not worth a message each time. */
  tellSometimes() {
    if (performance.now() - this.toldAt > EVERY) this.tell()
  }

  leave() {
    this.post(this.mine().map((one) => ({ ...one, state: null })))
    this.hasLeft = true // what is cut off now is not told as something that goes on
  }

  comeBack() {
    this.hasLeft = false
    this.tell()
  }

  post(uploads) {
    if (uploads.length && !this.hasLeft) this.channel.postMessage(uploads)
  }

  hear(uploads) {
    for (const one of uploads) {
      if (one.state === null) this.others.delete(one.id)
      else this.others.set(one.id, performance.now())
      this.heard(one)
    }
  }

  /** A tab that has crashed says nothing; one that lives answers, even in the background. */
  check() {
    for (const [id, at] of this.others) {
      if (performance.now() - at > SILENT) this.hear([{ id, state: null }])
    }
    if (this.others.size) this.ask()
  }
}
