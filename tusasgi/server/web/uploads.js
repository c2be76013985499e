// The page of `tusasgi serve --page`: what this browser uploads, and has uploaded.

import { Remembered, about, isSame } from "./remembered.js"
import { Rate, bytes, duration, sentence } from "./words.js"
import { Tabs } from "./tabs.js"
import { Upload } from "./upload.js"
import { onFiles } from "./choosing.js"

const AT_ONCE = 3 // a browser has six connections for a server
const STATES = {
  waiting: "Waits for its turn",
  uploading: "Uploading",
  retrying: "Connection lost, trying again",
  paused: "Paused",
  failed: "Failed",
  unfinished: "Unfinished",
  complete: "Complete",
}
const IS_RUNNING = new Set(["waiting", "uploading", "retrying"])
const IS_UNDER_WAY = new Set([...IS_RUNNING, "paused"])
const meta = (name) => document.querySelector(`meta[name=${name}]`).content
const COLLECTION = meta("collection")
const MISSING = meta("missing").split(" ") // what this server does not do

const $ = (id) => document.getElementById(id)
const say = (text) => ($("status").textContent = text)

const remembered = new Remembered("tusasgi:uploads", 200)

// ---------------------------------------------------------------- who uploads

let key = sessionStorage.getItem("tusasgi:key")

const headers = () => (key ? { Authorization: `Bearer ${key}` } : {})

function askForKey() {
  if (!$("access").hidden) return
  $("access").hidden = false
  $("key").focus()
}

// ---------------------------------------------------------------- one upload

const cards = []

class Card {
  /** Show an upload of a file, or one that was begun before (`url`, `entry`). */
  constructor({ file = null, url = null, entry }) {
    this.element = $("card").content.firstElementChild.cloneNode(true)
    this.entry = entry
    this.url = url
    this.shown = ""
    this.rate = new Rate()
    this.upload = null
    this.elsewhere = null // its state in another tab that runs it
    if (file) this.goOnWith(file)
    cards.unshift(this)
    this.connect()
    this.draw()
  }

  get state() {
    if (this.upload) return this.upload.state
    return this.entry.isComplete ? "complete" : "unfinished"
  }

  part(selector) {
    return this.element.querySelector(selector)
  }

  connect() {
    const actions = {
      toggle: () => this.toggle(),
      copy: () => navigator.clipboard.writeText(this.url).then(() => say("The link is copied")),
      forget: () => this.forget(),
      remove: () => this.remove(),
    }
    for (const button of this.element.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => this.attempt(actions[button.dataset.do]))
    }
    const input = this.part(".choose input")
    input.id = crypto.randomUUID?.() ?? `file-${Math.random()}`
    this.part(".choose label").htmlFor = input.id
    input.addEventListener("change", () => input.files[0] && this.choose(input.files[0]))
  }

  async attempt(action) {
    this.part(".error").textContent = ""
    try {
      await action()
    } catch (error) {
      this.part(".error").textContent = sentence(error.message)
    }
  }

  choose(file) {
    if (!isSame(about(file), this.entry)) {
      this.part(".error").textContent = `This is another file: the upload was begun with ${this.entry.name}, ${bytes(this.entry.size)}.`
      return
    }
    this.goOnWith(file)
    startNext()
    this.part("[data-do=toggle]").focus()
  }

  goOnWith(file) {
    this.upload = new Upload(file, {
      collection: COLLECTION,
      url: this.url,
      headers,
      onChange: () => this.changed(),
    })
  }

  toggle() {
    if (this.state === "paused" || this.state === "failed") this.upload.set("waiting")
    else {
      this.upload.pause()
      if (this.url) this.upload.look().catch(() => {}) // it is told when it goes on
    }
    startNext()
  }

  /** Another tab of this browser runs it, or, with the state null, does so no longer. */
  heard({ state }) {
    if (this.upload) return
    this.elsewhere = state
    this.entry = remembered.all()[this.url] ?? this.entry
    this.draw()
  }

  get isUnderWay() {
    return Boolean(this.upload && this.url) && IS_UNDER_WAY.has(this.state)
  }

  changed() {
    const { url, state, sent } = this.upload
    if (url && url !== this.url) {
      this.url = url
      remembered.save(url, this.entry)
    }
    this.rate.add(sent)
    this.draw()
    if (state === this.shown) return
    this.shown = state
    say(`${this.entry.name}: ${STATES[state]}`)
    if (state === "complete") this.completed()
    if (this.url) tabs.post([told(this)])
    if (state === "complete" || state === "failed") startNext()
    if (state === "failed" && this.upload.error.status === 401) askForKey()
  }

  completed() {
    this.entry = { ...this.entry, isComplete: true }
    remembered.save(this.url, this.entry)
    this.draw()
  }

  draw() {
    const { state, upload, entry } = this
    const isElsewhere = this.elsewhere !== null
    this.element.dataset.state = isElsewhere ? "elsewhere" : state
    this.part("h3").textContent = entry.name
    this.part(".state").textContent = isElsewhere ? `${STATES[this.elsewhere]} in another tab` : STATES[state]
    const progress = this.part("progress")
    progress.hidden = state === "complete" || state === "unfinished"
    progress.value = upload && entry.size ? upload.sent / entry.size : 0
    progress.setAttribute("aria-label", `Progress of ${entry.name}`)
    this.part(".numbers").textContent = this.numbers()
    if (upload) this.part(".error").textContent = state === "failed" ? sentence(upload.error.message) : ""
    const toggle = this.part("[data-do=toggle]")
    toggle.hidden = state === "complete" || state === "unfinished"
    toggle.textContent = state === "paused" ? "Resume" : state === "failed" ? "Try again" : "Pause"
    this.part(".choose").hidden = state !== "unfinished" || isElsewhere
    // A link brings no key along.
    this.part(".open").hidden = state !== "complete" || key !== null || MISSING.includes("downloads")
    if (this.url) this.part(".open").href = this.url
    this.part("[data-do=copy]").hidden = this.part(".open").hidden || !navigator.clipboard
    this.part("[data-do=forget]").hidden = isElsewhere || !["complete", "failed", "unfinished"].includes(state)
    this.part("[data-do=remove]").hidden = isElsewhere || MISSING.includes("termination") || (state === "failed" && !this.url)
    this.part("[data-do=remove]").textContent = state === "complete" ? "Delete" : "Cancel upload"
    for (const one of this.element.querySelectorAll("button, a.button, .choose label")) {
      one.setAttribute("aria-label", `${one.textContent}: ${entry.name}`)
    }
    summarize()
  }

  numbers() {
    const { upload, entry, state } = this
    if (!upload || state === "complete") return bytes(entry.size)
    const parts = [`${bytes(upload.sent)} of ${bytes(entry.size)}`]
    const rate = state === "uploading" ? this.rate.value : 0
    if (rate) parts.push(`${bytes(rate)}/s`, `${duration((entry.size - upload.sent) / rate)} left`)
    return parts.join(" · ")
  }

  async remove() {
    const isComplete = this.state === "complete"
    if (!confirm(isComplete ? `Delete ${this.entry.name} from the server?` : `Cancel the upload of ${this.entry.name}?`)) return
    const upload = this.upload ?? new Upload(null, { collection: COLLECTION, url: this.url, headers })
    await upload.remove()
    this.forget()
  }

  forget() {
    this.upload?.pause()
    if (this.url) {
      remembered.forget(this.url)
      tabs.post([{ id: this.url, state: null }])
    }
    cards.splice(cards.indexOf(this), 1)
    this.element.remove()
    $("empty").hidden = cards.length > 0
    $("list-title").focus()
    summarize()
    startNext()
  }
}

// ---------------------------------------------------------------- all of them

function startNext() {
  const running = cards.filter(({ state }) => state === "uploading" || state === "retrying").length
  const waiting = cards.filter(({ state }) => state === "waiting").reverse()
  for (const card of waiting.slice(0, Math.max(0, AT_ONCE - running))) card.upload.start()
}

function summarize() {
  const running = cards.filter(({ state }) => IS_RUNNING.has(state))
  const left = running.reduce((sum, { upload, entry }) => sum + entry.size - upload.sent, 0)
  $("summary").textContent = running.length ? `${running.length} under way, ${bytes(left)} left` : ""
}

function show(card) {
  $("list").prepend(card.element)
  $("empty").hidden = true
}

/** Upload files, each by going on with what was begun before where it is known. */
async function uploadAll(files) {
  for await (const file of files) {
    const known = cards.find((card) => card.state === "unfinished" && isSame(about(file), card.entry))
    if (known?.elsewhere) say(`${file.name} is on its way already`)
    else if (known) known.choose(file)
    else show(new Card({ file, entry: about(file) }))
    startNext()
  }
}

for (const [url, entry] of Object.entries(remembered.all())) show(new Card({ url, entry }))

const told = ({ url, state, upload }) => ({ id: url, state: IS_UNDER_WAY.has(state) ? state : null, sent: upload.sent })
const tabs = new Tabs("tusasgi:uploads", {
  mine: () => cards.filter((card) => card.isUnderWay).map(told),
  heard: (upload) => cards.find(({ url }) => url === upload.id)?.heard(upload),
})
tabs.ask()

onFiles({
  inputs: [$("files")],
  zone: $("drop"),
  take: uploadAll,
  cannotRead: (name) => ($("trouble").textContent = `${name} cannot be read.`),
})
$("access").addEventListener("submit", (event) => {
  event.preventDefault()
  key = $("key").value.trim()
  sessionStorage.setItem("tusasgi:key", key)
  $("key").value = ""
  $("access").hidden = true
  for (const card of cards) if (card.upload?.error?.status === 401) card.upload.set("waiting")
  startNext()
})
window.addEventListener("online", () => cards.forEach((card) => card.upload?.hurry()))
window.addEventListener("beforeunload", (event) => {
  if (cards.some(({ state }) => IS_RUNNING.has(state))) event.preventDefault()
})
