// Resumable uploads by TUS 1.0.0 (https://tus.io/protocols/resumable-upload), without a library.

const VERSION = "1.0.0"
const CHUNK = 64 * 1024 * 1024 // bytes of one PATCH; proxies may limit what they let through
const WAITS = [0, 1, 2, 5, 10, 20, 30] // seconds before the next attempt; the last one again and again
const MAY_PASS = [0, 408, 423, 429, 460] // 0: there was no answer

/**
 * The server has said no, or nothing (status 0). Nothing that it has acknowledged is lost.
 *
 * `header(name)` returns what the answer has under that name, null for nothing.
 */
export class Refusal extends Error {
  constructor(status, text = "", header = () => null) {
    super(text.trim() || (status ? `the server answered ${status}` : "the server cannot be reached"))
    this.status = status
    this.retryAfter = Number(header("Retry-After")) || 0
    // Of all conflicts, only that about the offset says what the true one is.
    this.isAboutOffset = status === 409 && header("Upload-Offset") !== null
  }

  get mayPass() {
    return this.isAboutOffset || MAY_PASS.includes(this.status) || this.status >= 500
  }
}

/** The file cannot be read: it was moved, changed, or is a folder. */
export class Unreadable extends Error {}

class Paused extends Error {}

/**
 * One file on its way to a server.
 *
 * `collection` is where uploads are created; `url` is of the upload, once there is one, and may be
 * given to go on with it. `headers()` returns those that every request gets. Calls `onChange` after
 * each change of `state`: "waiting", "uploading", "retrying", "paused", "complete", "failed" (then
 * `error` says why); of `offset`, the bytes that have arrived; and of `sent`, those that the browser
 * has handed on.
 */
export class Upload {
  constructor(file, { collection = "", url = null, headers = () => ({}), onChange = () => {} }) {
    this.file = file
    this.collection = new URL(collection, document.baseURI)
    this.url = url
    this.headers = headers
    this.onChange = onChange
    this.state = "waiting"
    this.offset = 0
    this.sent = 0
    this.error = null
    this.stop = null
    this.inHurry = false
  }

  /** Upload until all is there, it is paused, or the server refuses it. */
  async start() {
    if (this.stop) return
    const { signal } = (this.stop = new AbortController())
    this.set("uploading")
    try {
      await this.uploadAll(signal)
      this.set("complete")
    } catch (error) {
      if (!(error instanceof Paused)) this.set("failed", error)
    } finally {
      if (this.stop?.signal === signal) this.stop = null
    }
  }

  /** Stop sending; what has arrived stays. */
  pause() {
    this.stop?.abort(new Paused())
    this.stop = null
    this.set("paused")
  }

  /** Do not wait for the next attempt: the network is back. */
  hurry() {
    this.inHurry = true // also after an attempt that is failing just now
    this.wake?.()
  }

  /** Stop, and remove what has arrived. */
  async remove() {
    this.pause()
    if (!this.url) return
    const answer = await this.ask("DELETE", this.url, {})
    if (!answer.ok && answer.status !== 404 && answer.status !== 410) throw await refusalOf(answer)
  }

  // One step after another.

  async uploadAll(signal) {
    for (let failures = 0; ; failures++) {
      const before = this.offset
      try {
        await this.attempt(signal)
        return
      } catch (error) {
        if (signal.aborted) throw signal.reason
        if (!(error instanceof Refusal) || !error.mayPass) throw error
        if (this.offset > before) failures = 0
        this.set("retrying", error)
        await this.wait(Math.max(error.retryAfter, WAITS[Math.min(failures, WAITS.length - 1)]), signal)
        this.set("uploading")
      }
    }
  }

  /** Send all that is left, as long as nothing comes between. */
  async attempt(signal) {
    if (!this.url) await this.create(signal)
    else await this.look(signal)
    while (this.offset < this.file.size) await this.patch(signal)
  }

  async create(signal) {
    const named = `filename ${base64(this.file.name)}`
    const typed = this.file.type ? `,filetype ${base64(this.file.type)}` : ""
    const headers = { "Upload-Length": this.file.size, "Upload-Metadata": named + typed }
    const answer = await this.ask("POST", this.collection, headers, signal)
    if (answer.status !== 201) throw await refusalOf(answer)
    this.url = new URL(answer.headers.get("Location"), answer.url).href
    this.changed()
  }

  /** Learn what has arrived: what was handed on may be lost. */
  async look(signal) {
    const answer = await this.ask("HEAD", this.url, {}, signal)
    if (!answer.ok) throw await refusalOf(answer)
    const length = Number(answer.headers.get("Upload-Length"))
    if (length !== this.file.size) throw new Error("this is another file: it has another size")
    this.offset = Number(answer.headers.get("Upload-Offset"))
    this.progressed(this.offset)
  }

  /** Send bytes and take the offset that the server tells. */
  async patch(signal) {
    const piece = this.file.slice(this.offset, this.offset + CHUNK)
    await readable(piece)
    // fetch tells nothing of how far a body is.
    const request = new XMLHttpRequest()
    request.open("PATCH", this.url)
    const type = "application/offset+octet-stream"
    const headers = { ...this.tus(), "Upload-Offset": this.offset, "Content-Type": type }
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.upload.onprogress = (event) => this.progressed(this.offset + event.loaded)
    const stop = () => request.abort()
    signal.addEventListener("abort", stop)
    try {
      await new Promise((resolve) => {
        request.onloadend = resolve
        request.send(piece)
      })
    } finally {
      signal.removeEventListener("abort", stop)
    }
    signal.throwIfAborted()
    if (request.status !== 204 && request.status !== 200) {
      throw new Refusal(request.status, request.responseText, (name) => request.getResponseHeader(name))
    }
    this.offset = Number(request.getResponseHeader("Upload-Offset"))
    this.progressed(this.offset)
  }

  async ask(method, url, headers, signal) {
    const options = { method, headers: { ...this.tus(), ...headers }, signal, cache: "no-store" }
    return fetch(url, options).catch(() => {
      signal?.throwIfAborted()
      throw new Refusal(0)
    })
  }

  tus() {
    return { "Tus-Resumable": VERSION, ...this.headers() }
  }

  async wait(seconds, signal) {
    if (!this.inHurry) await this.sleep(seconds, signal)
    this.inHurry = false
    signal.throwIfAborted()
  }

  async sleep(seconds, signal) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 1000 * seconds)
      this.wake = () => {
        clearTimeout(timer)
        resolve()
      }
      signal.addEventListener("abort", this.wake, { once: true })
    })
    this.wake = null
  }

  // What whoever shows it hears of.

  set(state, error = null) {
    this.state = state
    this.error = error
    this.changed()
  }

  progressed(sent) {
    this.sent = sent
    this.changed()
  }

  changed() {
    this.onChange(this)
  }
}

/** What an answer of `fetch` says that is not ok. */
export async function refusalOf(answer) {
  const text = answer.status === 423 ? "the server is busy with this upload" : await answer.text()
  return new Refusal(answer.status, text, (name) => answer.headers.get(name))
}

/**
 * Throw `Unreadable` unless the browser can read this of a file.
 *
 * Once it sends, it does not tell an unreadable file from a lost connection.
 */
export async function readable(piece) {
  await piece.slice(0, 1).arrayBuffer().catch(() => {
    throw new Unreadable("the file cannot be read: was it moved or changed, or is it a folder?")
  })
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)))
}
