// How a file gets to Roughy: by tus-js-client where npm has brought it, else by tusasgi's own client.

import { Refusal, Upload, readable } from "./tusasgi/upload.js"
import { authorization } from "./api.js"

const CHUNK = 50 * 1024 * 1024 // bytes of one PATCH; proxies may limit what they let through

/** An upload that comes into being with its asset: `createAsset()` makes both, and returns its URL. */
class AssetUpload extends Upload {
  constructor(file, { createAsset, ...options }) {
    super(file, { headers: authorization, ...options })
    this.createAsset = createAsset
    this.creating = null
  }

  /** A pause does not stop this: an asset that nobody has heard of would be left behind. */
  async create(signal) {
    await readable(this.file)
    signal.throwIfAborted()
    this.creating ??= this.createAsset().finally(() => (this.creating = null))
    this.url = await this.creating
    signal.throwIfAborted()
  }
}

/** The same, with the bytes sent by tus-js-client; when to try again stays the same for both. */
class TusJsUpload extends AssetUpload {
  async attempt(signal) {
    if (!this.url) await this.create(signal)
    try {
      await this.send(signal)
    } catch (error) {
      signal.throwIfAborted()
      throw await this.refusalOf(error)
    }
  }

  send(signal) {
    return new Promise((resolve, reject) => {
      const upload = new window.tus.Upload(this.file, {
        uploadUrl: this.url,
        headers: this.headers(),
        chunkSize: CHUNK,
        retryDelays: null,
        storeFingerprintForResuming: false,
        onProgress: (sent) => this.progressed(sent),
        onAfterResponse: (_, answer) => this.confirmed(answer.getHeader("Upload-Offset")),
        onError: reject,
        onSuccess: () => resolve(),
      })
      const stop = () => {
        upload.abort()
        reject(signal.reason)
      }
      signal.addEventListener("abort", stop, { once: true })
      upload.start() // asks for the offset first
    })
  }

  /** What the browser counts is what it has handed on; what counts is what has arrived. */
  confirmed(offset) {
    if (offset === null) return
    this.offset = Number(offset)
    this.progressed(this.offset)
  }

  async refusalOf(error) {
    const answer = error.originalResponse
    if (answer) return new Refusal(answer.getStatus(), answer.getBody(), (name) => answer.getHeader(name))
    await readable(this.file.slice(this.offset))
    return new Refusal(0)
  }
}

export const hasTusJs = Boolean(window.tus)
export const Transfer = hasTusJs ? TusJsUpload : AssetUpload
