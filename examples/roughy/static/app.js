// The page of Roughy. The transfer itself is done by tus-js-client, `window.tus`.

const MIB = 1024 * 1024
const AT_ONCE = 3 // a browser has six connections for a server, and the page needs some itself
const RETRY_DELAYS = [0, 1000, 3000, 5000, 10_000, 20_000, ...Array(60).fill(30_000)]
const MAY_PASS = [0, 408, 409, 423, 429] // 0: there was no answer
const UNEXPLAINED = { 0: "Roughy cannot be reached", 423: "Roughy is busy with this upload, try again later" }
const SPEED_WINDOW = 5000

const $ = (id) => document.getElementById(id)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const say = (text) => ($("status").textContent = text)

// ---------------------------------------------------------------- the REST half of Roughy

/** An answer that says no; status 0 when there was none. */
class Refusal extends Error {
  constructor(status, body) {
    const { message, fields } = parseError(body)
    const reason = fields?.map((field) => `${field.field}: ${field.message}`).join("; ") || message
    const unexplained = UNEXPLAINED[status] ?? `the server answered ${status}`
    super(status === 401 ? "Roughy does not know this key." : sentence(reason || unexplained))
    this.status = status
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`

function parseError(body) {
  try {
    return JSON.parse(body).error ?? {}
  } catch {
    return {}
  }
}

let key = null

const authorization = () => ({ Authorization: `Bearer ${key}` })

async function call(method, path, { body, headers } = {}) {
  const url = new URL(path, new URL("v1/", document.baseURI))
  const type = body ? { "Content-Type": "application/json" } : {}
  const options = { method, headers: { ...authorization(), ...type, ...headers }, body: body && JSON.stringify(body) }
  const response = await fetch(url, options).catch(() => {
    throw new Refusal(0)
  })
  if (!response.ok) throw new Refusal(response.status, await response.text())
  return response
}

/** What HEAD says of an upload; while something stands in the way that will pass, ask again. */
async function head(uploadUrl) {
  const ask = () => call("HEAD", uploadUrl, { headers: { "Tus-Resumable": "1.0.0" } })
  for (const delay of [1000, 3000, 5000, 10_000]) {
    try {
      return await ask()
    } catch (refusal) {
      if (refusal.status !== 423) throw refusal
    }
    await sleep(delay)
  }
  return ask()
}

const read = async (path) => (await call("GET", path)).json()

// ---------------------------------------------------------------- what this browser remembers

/** Name, size and time of the files by asset; the server knows only bytes. */
const files = {
  all: () => JSON.parse(localStorage.getItem("roughy:files") ?? "{}"),
  of: (assetId) => files.all()[assetId],
  find: (file) => Object.keys(files.all()).find((id) => !files.of(id).done && isSame(files.of(id), file)),
  save(assetId, about) {
    const newest = Object.entries({ ...files.all(), [assetId]: about }).slice(-500)
    localStorage.setItem("roughy:files", JSON.stringify(Object.fromEntries(newest)))
  },
  finish: (assetId) => files.of(assetId) && files.save(assetId, { ...files.of(assetId), done: true }),
}

const describe = (file) => ({ name: file.name, size: file.size, time: file.lastModified })
const isSame = (about, file) => about.name === file.name && about.size === file.size && about.time === file.lastModified

// ---------------------------------------------------------------- words

const NUMBER = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 })

function bytes(count) {
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, count)) / 3))
  return `${NUMBER.format(count / 1000 ** power)} ${["B", "kB", "MB", "GB", "TB"][power]}`
}

function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`
}

const PHASES = {
  queued: "Waits for its turn",
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
const IS_RUNNING = new Set(["queued", "uploading", "retrying"])
const HAS_PROGRESS = new Set([...IS_RUNNING, "paused", "unfinished"])

// ---------------------------------------------------------------- one asset on the page

const cards = new Map()

class Card {
  constructor(asset) {
    this.element = $("card").content.firstElementChild.cloneNode(true)
    this.asset = asset
    this.phase = asset.state === "pending_upload" ? "unfinished" : asset.state
    this.sent = 0
    this.total = asset.size_bytes ?? files.of(asset.id)?.size ?? 0
    this.samples = []
    this.error = ""
    cards.set(asset.id, this)
    this.connect()
    this.draw()
  }

  part(selector) {
    return this.element.querySelector(selector)
  }

  get name() {
    const kind = this.asset.type ?? "file"
    return files.of(this.asset.id)?.name ?? `A ${kind} of ${new Date(this.asset.created_at).toLocaleString()}`
  }

  connect() {
    const actions = {
      toggle: () => (this.phase === "paused" ? this.enqueue() : this.pause()),
      play: () => this.play(true),
      download: () => this.download(),
      remove: () => this.remove(),
    }
    for (const button of this.element.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => attempt(actions[button.dataset.do], this))
    }
    const input = this.part(".choose input")
    input.id = `file-${this.asset.id}`
    this.part(".choose label").htmlFor = input.id
    input.addEventListener("change", () => input.files[0] && attempt(() => this.goOnWith(input.files[0]), this))
  }

  set(phase, error = "") {
    if (phase !== this.phase || error !== this.error) say(`${this.name}: ${error || PHASES[phase]}`)
    this.phase = phase
    this.error = error
    this.draw()
  }

  draw() {
    const { phase } = this
    this.element.dataset.phase = phase
    this.part("h3").textContent = this.name
    this.part(".state").textContent = PHASES[phase]
    this.part(".error").textContent = this.error
    this.part(".numbers").textContent = this.numbers()
    const progress = this.part("progress")
    progress.hidden = !HAS_PROGRESS.has(phase)
    progress.value = this.total ? this.sent / this.total : 0
    progress.setAttribute("aria-label", `Progress of ${this.name}`)
    this.part("[data-do=toggle]").hidden = !IS_RUNNING.has(phase) && phase !== "paused"
    this.part("[data-do=toggle]").textContent = phase === "paused" ? "Resume" : "Pause"
    this.part(".choose").hidden = phase !== "unfinished"
    this.part("[data-do=play]").hidden = phase !== "ready" || this.part(".player").hasChildNodes()
    this.part("[data-do=download]").hidden = phase !== "ready"
    this.part("[data-do=remove]").hidden = phase === "finishing" || phase === "processing"
    this.part("[data-do=remove]").textContent = HAS_PROGRESS.has(phase) ? "Cancel upload" : "Delete"
  }

  numbers() {
    if (this.phase === "unfinished" && !this.total) return ""
    if (HAS_PROGRESS.has(this.phase)) {
      const parts = [`${bytes(this.sent)} of ${bytes(this.total)}`]
      const speed = this.phase === "uploading" ? this.speed() : 0
      if (speed) parts.push(`${bytes(speed)}/s`, `${duration((this.total - this.sent) / speed)} left`)
      return parts.join(" · ")
    }
    const { content_type: type, duration_seconds: seconds, size_bytes: size } = this.asset
    return [type, seconds && duration(Number(seconds)), size && bytes(size)].filter(Boolean).join(" · ")
  }

  /** Bytes a second, over the last seconds. */
  speed() {
    const [first, last] = [this.samples[0], this.samples.at(-1)]
    return this.samples.length > 1 && last.time > first.time ? (1000 * (last.sent - first.sent)) / (last.time - first.time) : 0
  }

  progressed(sent) {
    const time = performance.now()
    if (sent < this.sent) this.samples = []
    this.samples = [...this.samples.filter((sample) => time - sample.time < SPEED_WINDOW), { time, sent }]
    this.sent = sent
    if (this.phase === "retrying") this.set("uploading")
    else this.draw()
  }

  // -------------------------------------------------------------- the transfer

  /** Ask how much of an unfinished upload the server has. */
  async look() {
    this.asset = await read(`assets/${this.asset.id}`)
    const answer = await head(this.asset.upload_url)
    this.sent = Number(answer.headers.get("Upload-Offset"))
    this.total = Number(answer.headers.get("Upload-Length"))
    this.draw()
  }

  async goOnWith(file) {
    await this.look()
    const about = files.of(this.asset.id)
    const isOther = about ? !isSame(about, file) : file.size !== this.total
    if (isOther) {
      const expected = about ? `${about.name}, ${bytes(about.size)}` : `a file of exactly ${this.total} bytes`
      throw new Error(`This is another file: the upload was begun with ${expected}.`)
    }
    this.begin(file, this.asset.upload_url)
    this.part("[data-do=toggle]").focus()
  }

  begin(file, uploadUrl) {
    files.save(this.asset.id, describe(file))
    this.total = file.size
    this.upload = new tus.Upload(file, {
      uploadUrl,
      headers: authorization(),
      chunkSize: 50 * MIB,
      retryDelays: RETRY_DELAYS,
      storeFingerprintForResuming: false, // `files` does it
      onShouldRetry: (error) => this.shouldRetry(error),
      onProgress: (sent) => this.progressed(sent),
      onAfterResponse: (_, answer) => this.confirmed(answer),
      onError: (error) => attempt(() => this.stopped(error), this),
      onSuccess: () => this.sentAll(),
    })
    this.enqueue()
  }

  enqueue() {
    this.set("queued")
    startNext()
  }

  start() {
    this.samples = []
    this.set("uploading")
    this.upload.start() // asks for the offset first
  }

  async pause() {
    this.upload.abort()
    this.set("paused")
    startNext()
    // What this browser has sent may not all have arrived.
    await this.look().catch((refusal) => refusal.status && Promise.reject(refusal))
  }

  /** What the browser counts is what it has handed on; what counts is what has arrived. */
  confirmed(answer) {
    const offset = answer.getHeader("Upload-Offset")
    if (offset !== null) this.progressed(Number(offset))
  }

  shouldRetry(error) {
    const answer = error.originalResponse
    const status = answer?.getStatus() ?? 0
    // Of the two kinds of 409, only that about the offset says what the true one is. The other
    // one is final: the file is not audio or video.
    if (status === 409 && answer.getHeader("Upload-Offset") === null) return false
    const mayPass = MAY_PASS.includes(status) || status >= 500
    if (mayPass) this.set("retrying")
    return mayPass
  }

  /** The transfer has ended without success. The asset may know more than the answer said. */
  async stopped(error) {
    const answer = error.originalResponse
    const refusal = answer ? new Refusal(answer.getStatus(), answer.getBody()) : new Refusal(0)
    this.set("paused", refusal.status ? refusal.message : "The connection did not come back.")
    startNext()
    if (refusal.status === 401) throw refusal
    if (refusal.status) await this.refresh()
  }

  sentAll() {
    this.sent = this.total
    this.set("finishing")
    files.finish(this.asset.id)
    startNext()
    this.follow()
  }

  // -------------------------------------------------------------- the asset

  async refresh() {
    try {
      this.asset = await read(`assets/${this.asset.id}`)
    } catch (refusal) {
      if (refusal.status !== 404) throw refusal
      this.set("gone", "This upload is not there any more: it was cancelled, or has expired.")
      return
    }
    const { state, error_code: code, error_message: message } = this.asset
    if (state === "failed") files.finish(this.asset.id)
    if (state !== "pending_upload") this.set(state, state === "failed" ? sentence(`${message} (${code})`) : "")
  }

  /** Ask again and again until the asset does not change by itself any more. */
  async follow() {
    for (let wait = 500; cards.get(this.asset.id) === this; wait = Math.min(5000, wait * 1.5)) {
      await this.refresh().catch((refusal) => refusal.status === 401 && signOut(refusal.message))
      if (this.phase === "ready") {
        showAccount()
        return this.play(false)
      }
      if (this.phase === "failed" || this.phase === "gone") return
      await sleep(this.phase === "pending_payment" ? 10_000 : wait)
    }
  }

  /** Show a player. Its link is good for some minutes only, so it may need another one. */
  async play(atOnce) {
    const player = document.createElement(this.asset.type === "audio" ? "audio" : "video")
    let linkedAt = 0
    const link = async () => {
      linkedAt = performance.now()
      player.src = (await read(`assets/${this.asset.id}`)).download_url
    }
    player.controls = true
    player.playsInline = true
    player.preload = "metadata"
    player.setAttribute("aria-label", this.name)
    player.addEventListener("error", () => {
      if (performance.now() - linkedAt < 60_000) return this.set("ready", "This browser cannot play it: download it instead.")
      const at = player.currentTime
      attempt(link, this).then(() => (player.currentTime = at))
    })
    await link()
    this.part(".player").replaceChildren(player)
    this.draw()
    if (!atOnce) return
    player.focus()
    await player.play().catch(() => {}) // the error event tells why
  }

  async download() {
    const link = document.createElement("a")
    link.href = (await read(`assets/${this.asset.id}`)).download_url
    link.download = this.name
    // From another server the name above does not count, and the page would be left.
    if (link.origin !== location.origin) link.target = "_blank"
    link.click()
  }

  async remove() {
    const isUpload = HAS_PROGRESS.has(this.phase)
    if (!confirm(isUpload ? `Cancel the upload of ${this.name}?` : `Delete ${this.name}?`)) return
    await this.upload?.abort()
    if (this.phase !== "gone") {
      const path = isUpload ? `uploads/${this.asset.id}` : `assets/${this.asset.id}`
      await call("DELETE", path, { headers: { "Tus-Resumable": "1.0.0" } })
    }
    files.finish(this.asset.id)
    cards.delete(this.asset.id)
    this.element.remove()
    $("empty").hidden = cards.size > 0
    $("assets-title").focus()
    say(`${this.name}: ${isUpload ? "cancelled" : "deleted"}`)
    startNext()
  }
}

function startNext() {
  const all = [...cards.values()]
  const running = all.filter((card) => card.phase === "uploading" || card.phase === "retrying").length
  const queued = all.filter((card) => card.phase === "queued")
  for (const card of queued.slice(0, Math.max(0, AT_ONCE - running))) card.start()
}

/** Do something; show what went wrong on the card, or else above the list. */
async function attempt(action, card) {
  if (!card) $("upload-error").textContent = ""
  try {
    return await action()
  } catch (error) {
    if (error.status === 401) signOut(error.message)
    else if (card) card.set(card.phase, error.message)
    else $("upload-error").textContent = error.message
  }
}

// ---------------------------------------------------------------- the lists

async function showAccount() {
  const { balance } = await read("credits/balance")
  $("account").textContent = `Key ${key.slice(0, 7)}… · ${balance} credits`
}

async function showProjects(chosen = localStorage.getItem("roughy:project")) {
  const { items } = await read("projects?limit=100")
  $("project").replaceChildren(...items.map((project) => new Option(project.name, project.id, false, project.id === chosen)))
  $("project").disabled = items.length === 0
  if (items.length === 0) openNewProject(true)
}

function openNewProject(open) {
  $("new-project").hidden = !open
  $("add-project").setAttribute("aria-expanded", open)
}

async function createProject(name) {
  const project = await (await call("POST", "projects", { body: { name } })).json()
  $("project-name").value = ""
  openNewProject(false)
  localStorage.setItem("roughy:project", project.id)
  await showProjects(project.id)
  return project.id
}

/** Show the assets of the project, and every unfinished upload of the account. */
async function showAssets() {
  const project = $("project").value
  const [unfinished, latest] = await Promise.all([
    read("assets?state=pending_upload&limit=100"),
    project ? read(`assets?project_id=${project}&limit=20`) : { items: [] },
  ])
  const wanted = new Map([...unfinished.items, ...latest.items].map((asset) => [asset.id, asset]))
  for (const [id, card] of cards) if (!wanted.has(id) && !card.upload) cards.delete(id)
  for (const asset of wanted.values()) if (!cards.has(asset.id)) watch(new Card(asset))
  const newestFirst = [...cards.values()].sort((a, b) => (a.asset.id < b.asset.id ? 1 : -1))
  $("assets").replaceChildren(...newestFirst.map((card) => card.element))
  $("empty").hidden = cards.size > 0
}

function watch(card) {
  if (card.phase === "unfinished") attempt(() => card.look(), card)
  if (card.phase === "failed") attempt(() => card.refresh(), card)
  if (card.phase === "processing" || card.phase === "pending_payment") card.follow()
}

/** Upload files: each to the asset it was going to before, if there is one, or to a new one. */
async function uploadAll(list) {
  if (!window.tus) throw new Error("tus-js-client is missing: run npm install in examples/roughy, and reload.")
  for (const file of list) {
    const known = cards.get(files.find(file))
    if (known?.phase === "unfinished") await attempt(() => known.goOnWith(file), known)
    else if (!known || !HAS_PROGRESS.has(known.phase)) await uploadNew(file)
  }
}

async function uploadNew(file) {
  const project = $("project").value || (await createProject($("project-name").value || "My uploads"))
  const answer = await call("POST", "assets", { body: { project_id: project, size_bytes: file.size } })
  const card = new Card(await answer.json())
  card.begin(file, answer.headers.get("Location"))
  $("assets").prepend(card.element)
  $("empty").hidden = true
}

// ---------------------------------------------------------------- the key

async function signIn(given, storage) {
  key = given
  try {
    await showAccount()
  } catch (error) {
    return signOut(error.message)
  }
  storage?.setItem("roughy:key", key)
  $("sign-in").hidden = true
  $("signed-in").hidden = false
  await attempt(async () => {
    await showProjects()
    await showAssets()
  })
}

function signOut(message = "") {
  for (const card of cards.values()) card.upload?.abort()
  cards.clear()
  sessionStorage.removeItem("roughy:key")
  localStorage.removeItem("roughy:key")
  $("assets").replaceChildren()
  $("signed-in").hidden = true
  $("sign-in").hidden = false
  $("key-error").textContent = message
  $("key").focus()
}

/** A link may bring the key behind its #, which browsers do not send; it is taken out of sight. */
function keyFromLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key")
  if (given) history.replaceState(null, "", location.pathname + location.search)
  return given
}

function begin() {
  const linked = keyFromLink()
  const kept = sessionStorage.getItem("roughy:key") ?? localStorage.getItem("roughy:key")
  if (linked) signIn(linked, sessionStorage)
  else if (kept) signIn(kept)
  else signOut()
}

// ---------------------------------------------------------------- what people do

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault()
  signIn($("key").value.trim(), $("remember").checked ? localStorage : sessionStorage)
  $("key").value = ""
})
$("sign-out").addEventListener("click", () => signOut())
$("add-project").addEventListener("click", () => {
  openNewProject($("new-project").hidden)
  if (!$("new-project").hidden) $("project-name").focus()
})
$("new-project").addEventListener("submit", (event) => {
  event.preventDefault()
  attempt(async () => {
    await createProject($("project-name").value)
    await showAssets()
    $("project").focus()
  })
})
$("project").addEventListener("change", () => {
  localStorage.setItem("roughy:project", $("project").value)
  attempt(showAssets)
})
$("files").addEventListener("change", () => {
  const chosen = [...$("files").files]
  $("files").value = "" // so that the same file can be chosen again
  attempt(() => uploadAll(chosen))
})

for (const type of ["dragover", "drop"]) {
  // A file that misses the drop zone must not replace the page.
  window.addEventListener(type, (event) => event.preventDefault())
}
for (const type of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(type, (event) => $("drop").classList.toggle("over", event.type === "dragover"))
}
$("drop").addEventListener("drop", (event) => {
  const dropped = [...event.dataTransfer.files]
  attempt(() => uploadAll(dropped))
})

window.addEventListener("online", () => {
  for (const card of cards.values()) {
    if (card.phase !== "retrying") continue
    card.upload.abort() // do not wait for the next attempt
    card.start()
  }
})
window.addEventListener("hashchange", () => location.hash.startsWith("#key=") && begin())

begin()
