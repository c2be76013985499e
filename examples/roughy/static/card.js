// One file on its way, or one asset.

import { Problem, failureInWords, inWords, isOutOfCredits } from "./problems.js"
import { Remembered, about, isSame } from "./tusasgi/remembered.js"
import { Rate, bytes } from "./tusasgi/words.js"
import { call, cancelUpload, deleteAsset, progressOf, read, sleep } from "./api.js"
import { chosenProject, firstProject } from "./projects.js"
import { download, withExtension } from "./download.js"
import { Refusal, Unreadable } from "./tusasgi/upload.js"
import { Transfer } from "./transfer.js"
import { View } from "./view.js"
import { playerOf } from "./player.js"

const files = new Remembered("roughy:files", 2000)

const STATES = {
  waiting: "Waits for its turn",
  uploading: "Uploading",
  retrying: "Connection lost, trying again",
  paused: "Paused",
  unfinished: "Unfinished",
  finishing: "Being prepared",
  processing: "Being prepared",
  pending_payment: "Waits for credits",
  ready: "Ready",
  failed: "Failed",
  gone: "Gone",
}
const ANNOUNCED = new Set(["retrying", "paused", "pending_payment", "ready", "gone"])
const RUNNING = new Set(["waiting", "uploading", "retrying"])
const UNSENT = new Set([...RUNNING, "paused", "unfinished"])
const ARRIVED = new Set(["finishing", "processing", "pending_payment", "ready"])
const BEING_PREPARED = new Set(["finishing", "processing"])
const OF_THE_FILE = new Set([413, 422]) // refusals that come again for the same file

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" })

/**
 * What the page shows of a file that is to become an asset, of an asset, or of both.
 *
 * `page` hears of it: `began(card)` when it is to be sent, `created(card)` when it has become
 * an asset, `changed(card)`, `stateChanged(card)`, `removed(card)`; `say(text)`, `outOfCredits(text)`,
 * `signOut(message)`.
 */
export class Card {
  constructor({ asset = null, file = null, project = asset?.project_id, page }) {
    this.page = page
    this.asset = asset
    this.project = project
    this.about = file ? about(file) : files.all()[asset.id]
    this.sent = 0
    this.total = asset?.size_bytes ?? this.about?.size ?? 0
    this.rate = new Rate()
    this.upload = null
    this.elsewhere = null // its state in another tab that runs it
    this.isGone = false
    this.isRemoved = false
    this.note = ""
    this.view = null
    if (file) this.begin(file)
    this.lastState = this.state
  }

  // ---------------------------------------------------------------- what it is

  get state() {
    if (this.isGone) return "gone"
    if (this.upload && this.upload.state !== "complete") return this.upload.state
    if (this.asset.state !== "pending_upload") return this.asset.state
    return this.upload ? "finishing" : "unfinished"
  }

  get isRunning() {
    return RUNNING.has(this.state)
  }

  get isSending() {
    return this.isRunning && this.state !== "waiting"
  }

  get isUnsent() {
    return UNSENT.has(this.state)
  }

  get hasArrived() {
    return ARRIVED.has(this.state)
  }

  /** What failed in this tab is shown with the uploads, where people wait for it. */
  get isListed() {
    return this.hasArrived || (this.state === "failed" && !this.upload)
  }

  /** Leaving the page would lose something: the sending, or the choice of the file. */
  get isAtRisk() {
    return this.isRunning || (this.state === "paused" && !this.asset)
  }

  get isOfOtherProject() {
    return Boolean(this.project) && this.project !== chosenProject()
  }

  isOf(file) {
    return Boolean(this.about) && isSame(this.about, about(file))
  }

  get name() {
    return this.about?.name ?? `${this.kind}, ${DATE.format(new Date(this.asset.created_at))}`
  }

  get kind() {
    return { audio: "Audio", video: "Video" }[this.asset.type] ?? "File"
  }

  get stateInWords() {
    if (this.elsewhere) return `${STATES[this.elsewhere]} in another tab`
    const isBusy = this.state === "retrying" && this.upload.error?.status
    return isBusy ? "Roughy is busy, trying again" : STATES[this.state]
  }

  get problem() {
    if (this.note || this.state !== "failed") return this.note
    const { state, error_code: code, error_message: message } = this.asset ?? {}
    if (state === "failed") return code ? failureInWords(code, message) : ""
    return inWords(this.upload.error)
  }

  get mayTryAgain() {
    return this.state === "failed" && this.asset?.state !== "failed" && !OF_THE_FILE.has(this.upload.error.status)
  }

  /** Whether it goes on with the file that it began with, once somebody shows which that is. */
  get mayBeChosen() {
    return this.state === "unfinished" || (this.mayTryAgain && this.asset && this.upload.error instanceof Unreadable)
  }

  get isBeingPrepared() {
    return BEING_PREPARED.has(this.state)
  }

  get isOnServer() {
    return Boolean(this.asset) && !this.isGone
  }

  /** Whether to remove it is to cancel an upload. */
  get isUpload() {
    return this.isUnsent || this.mayTryAgain
  }

  // ---------------------------------------------------------------- how it looks

  /** Made when it is wanted: of thousands of files that wait, people see a few. */
  get element() {
    if (!this.view) {
      this.view = new View(this)
      if (this.state === "unfinished") this.attempt(() => this.look())
      if (this.state === "failed" && !this.upload) this.attempt(() => this.refresh())
    }
    return this.view.element
  }

  /** Do something, and show what went wrong with it. */
  async attempt(action) {
    this.note = ""
    try {
      await action()
    } catch (error) {
      if (error.status === 401) return this.page.signOut(inWords(error))
      this.note = inWords(error)
    }
    this.changed()
  }

  changed() {
    this.view?.draw()
    if (this.state !== this.lastState) {
      this.lastState = this.state
      if (this.state === "failed") this.page.say(`${this.name}: ${this.problem || STATES.failed}`)
      else if (ANNOUNCED.has(this.state)) this.page.say(`${this.name}: ${STATES[this.state]}`)
      this.page.stateChanged(this)
    }
    this.page.changed(this)
  }

  // ---------------------------------------------------------------- the transfer

  begin(file) {
    this.about = about(file)
    this.total = file.size
    if (this.asset) files.save(this.asset.id, this.about)
    this.upload = new Transfer(file, {
      url: this.asset?.upload_url,
      createAsset: () => this.createAsset(file),
      onChange: () => this.uploadChanged(),
    })
    this.page.began(this)
  }

  async createAsset(file) {
    this.project ||= await firstProject()
    const answer = await call("POST", "assets", { body: { project_id: this.project, size_bytes: file.size } })
    this.asset = await answer.json()
    if (this.isRemoved) await cancelUpload(this.asset.id)
    files.save(this.asset.id, this.about)
    this.page.created(this)
    return answer.headers.get("Location")
  }

  uploadChanged() {
    const { state, sent, error } = this.upload
    this.sent = sent
    this.rate.add(sent)
    const isNew = state !== this.lastState
    this.changed()
    if (isNew && state === "complete") this.follow()
    if (isNew && state === "failed") this.attempt(() => this.failed(error))
  }

  /** The asset may know more than the answer said. */
  async failed(error) {
    if (isOutOfCredits(error)) {
      this.page.outOfCredits(inWords(error))
      this.upload.pause()
    } else if (error.status === 401) throw error
    else if (error instanceof Refusal && this.asset) await this.refresh()
  }

  async toggle() {
    if (this.isRunning) await this.pause()
    else this.enqueue()
  }

  enqueue() {
    this.note = ""
    this.page.began(this)
    this.upload.set("waiting")
  }

  async pause() {
    this.upload.pause()
    // What this browser has sent may not all have arrived. Without an answer, that is told later.
    if (this.asset) await this.look().catch((error) => error.status && Promise.reject(error))
  }

  /** Ask how much of it has arrived. */
  async look() {
    this.asset = await read(`assets/${this.asset.id}`)
    if (this.asset.state === "pending_upload") Object.assign(this, await progressOf(this.asset.upload_url))
    else if (this.upload) this.upload.set("complete")
    else this.follow()
  }

  async goOnWith(file) {
    await this.look()
    if (this.about ? !this.isOf(file) : file.size !== this.total) {
      const expected = this.about ? `${this.about.name}, ${bytes(this.about.size)}` : `a file of exactly ${this.total} bytes`
      throw new Problem(`This is another file: the upload was begun with ${expected}.`)
    }
    if (this.asset.state !== "pending_upload") return // all of it has arrived
    this.begin(file)
    this.changed()
  }

  /** Another tab of this browser runs it, or, with the state null, does so no longer. */
  heard({ state, sent = this.sent }) {
    if (this.upload) return // here, too: then this tab shows its own
    const hasEnded = this.elsewhere !== null && state === null
    Object.assign(this, { elsewhere: state, sent })
    this.changed()
    if (hasEnded) this.attempt(() => this.lookAgain())
  }

  async lookAgain() {
    await this.refresh()
    if (this.state === "unfinished") await this.look()
    else await this.follow()
  }

  // ---------------------------------------------------------------- the asset

  async refresh() {
    try {
      this.asset = await read(`assets/${this.asset.id}`)
    } catch (refusal) {
      if (refusal.status !== 404) throw refusal
      this.isGone = true
      this.note = "This upload is not there any more: it was cancelled, or has expired."
    }
    this.changed()
  }

  /** Ask again and again until the asset does not change by itself any more. */
  async follow() {
    for (let wait = 0.5; !this.isRemoved; wait = Math.min(5, wait * 1.5)) {
      await this.attempt(() => this.refresh())
      if (!this.isBeingPrepared && this.state !== "pending_payment") return
      await sleep(this.state === "pending_payment" ? 10 : wait)
    }
  }

  play() {
    const player = playerOf(this.asset, this.name, {
      link: async () => (await read(`assets/${this.asset.id}`)).download_url,
      failed: (error) => this.attempt(() => Promise.reject(error)),
    })
    this.view.show(player)
  }

  async download() {
    const { download_url: url, extension } = await read(`assets/${this.asset.id}`)
    download(url, withExtension(this.about?.name ?? this.plainName, extension))
  }

  get plainName() {
    const [date, time] = this.asset.created_at.split(/[T.]/)
    return `${this.kind} ${date} ${time.replaceAll(":", "-")}`
  }

  async remove() {
    const { name, asset, isUpload } = this
    if (this.isOnServer) {
      if (!confirm(isUpload ? `Cancel the upload of ${name}?` : `Delete ${name}?`)) return
      this.upload?.pause()
      await (isUpload ? cancelUpload(asset.id) : deleteAsset(asset.id))
      files.forget(asset.id)
    }
    this.upload?.pause()
    this.isRemoved = true
    this.page.removed(this)
    this.page.say(`${name}: ${!asset ? "removed" : isUpload ? "cancelled" : "deleted"}`)
  }
}
