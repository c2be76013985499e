// The two lists of the page: the files on their way, and the assets of the chosen project.

import { chosenProject, nameOf } from "./projects.js"
import { read, readAll } from "./api.js"
import { Card } from "./card.js"
import { Queue } from "./queue.js"
import { Tabs } from "./tusasgi/tabs.js"

const STEP = 20 // what is shown, at first and more of each time
const DRAW_EVERY = 100 // milliseconds

const $ = (id) => document.getElementById(id)
const say = (text) => ($("status").textContent = text)

export const queue = new Queue()

let cards = []
let quietShown = STEP
let listed = new Set() // the ids that the server's list begins with, as far as we know it
let total = 0
let drawing = null

// ---------------------------------------------------------------- what cards tell

const told = (card) => ({ id: card.asset.id, state: card.isUnsent && card.upload ? card.state : null, sent: card.sent })
const isMine = (card) => card.upload && card.asset && card.isUnsent

const tabs = new Tabs("roughy:uploads", {
  mine: () => cards.filter(isMine).map(told),
  heard: (upload) => cards.find((card) => card.asset?.id === upload.id)?.heard(upload),
})

/** What the cards need of the page. `signOut` and `showAccount` are given by it. */
const page = {
  say,
  began: (card) => queue.add(card),
  changed(card) {
    if (isMine(card)) tabs.tellSometimes()
    drawSoon()
  },
  stateChanged(card) {
    if (card.upload && card.asset) tabs.post([told(card)])
    if (card.state === "ready") page.showAccount()
    queue.startNext()
  },
  created(card) {
    if (card.project !== chosenProject()) return
    listed.add(card.asset.id)
    total += 1
  },
  removed(card) {
    cards = cards.filter((one) => one !== card)
    queue.remove(card)
    if (card.asset) {
      tabs.post([{ id: card.asset.id, state: null }])
      if (card.project === chosenProject()) total -= 1
      listed.delete(card.asset.id)
    }
    draw()
    focusTitle()
    queue.startNext()
  },
  outOfCredits(text) {
    queue.pauseAll()
    $("upload-error").textContent = text
  },
}

export const connect = (functions) => Object.assign(page, functions)

// ---------------------------------------------------------------- what is shown

const isInProject = (card) => card.isListed && !card.isOfOtherProject
const isQuiet = (card) => ["waiting", "unfinished"].includes(card.state) || (card.state === "paused" && !card.asset)
const newestFirst = (one, other) => (one.asset.id < other.asset.id ? 1 : -1)

function drawSoon() {
  drawing ??= setTimeout(draw, DRAW_EVERY)
}

function draw() {
  clearTimeout(drawing)
  drawing = null
  const focused = document.activeElement
  const assets = cards.filter(isInProject).sort(newestFirst)
  const uploads = cards.filter((card) => !isInProject(card))
  const quiet = uploads.filter(isQuiet)
  const seen = new Set(quiet.slice(0, quietShown))
  fill($("uploads"), uploads.filter((card) => !isQuiet(card) || seen.has(card)))
  fill($("assets"), assets)
  if (focused !== document.activeElement && focused.isConnected) focused.focus()
  drawUploads(uploads.length, quiet.length - seen.size)
  drawAssets(assets.length)
  if (focused.closest("#signed-in [hidden]")) focusTitle()
}

/** Show cards in a list, moving none that is where it belongs: what moves stops playing. */
function fill(list, shown) {
  const elements = shown.map((card) => card.element)
  const wanted = new Set(elements)
  for (const element of [...list.children]) if (!wanted.has(element)) element.remove()
  elements.forEach((element, index) => {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null)
  })
}

function focusTitle() {
  $($("uploads-section").hidden ? "assets-title" : "uploads-title").focus()
}

function drawUploads(count, hidden) {
  const isUnderWay = queue.isUnderWay
  const isMany = queue.cards.size > 1
  const summary = isMany ? queue.inWords() : "" // a single card says it all
  $("uploads-section").hidden = count === 0 && !summary
  $("summary").textContent = summary
  $("total").hidden = $("all").hidden = !isUnderWay || !isMany
  $("total").value = queue.share
  $("all").textContent = queue.isRunning ? "Pause all" : "Resume all"
  $("more-uploads").hidden = hidden === 0
  $("more-uploads").textContent = `Show more of ${hidden.toLocaleString()} others`
  document.title = queue.isRunning ? `${Math.floor(100 * queue.share)} % · Roughy` : "Roughy"
}

function drawAssets(count) {
  const name = nameOf(chosenProject())
  $("assets-title").textContent = name ? `Assets in ${name}` : "Assets"
  $("empty").hidden = count > 0
  const isMore = listed.size < total
  $("more").hidden = !isMore
  $("count").textContent = isMore ? `The newest ${count} of ${total.toLocaleString()}` : ""
}

// ---------------------------------------------------------------- what there is

/** Show every unfinished upload of the account, and the newest assets of the chosen project. */
export async function showAll() {
  for (const asset of await readAll("assets?state=pending_upload&")) show(asset)
  tabs.ask()
  await showProject()
}

/** Show the newest assets of the chosen project, instead of those of another one. */
export async function showProject() {
  cards = cards.filter((card) => card.upload || !card.isListed)
  listed = new Set()
  total = 0
  for (const card of cards) card.view?.draw() // each names its project where that is another one
  draw()
  await showNext()
}

export async function showMore() {
  await focusingOnMore($("assets"), showNext)
}

async function showNext() {
  const project = chosenProject()
  if (!project) return draw()
  const answer = await read(`assets?project_id=${project}&limit=${STEP}&offset=${listed.size}`)
  if (project !== chosenProject()) return // meanwhile another one was chosen
  total = answer.total
  for (const asset of answer.items) {
    listed.add(asset.id)
    show(asset)
  }
  draw()
}

function show(asset) {
  if (cards.some((card) => card.asset?.id === asset.id)) return
  const card = new Card({ asset, page })
  cards.push(card)
  if (["processing", "pending_payment"].includes(card.state)) card.follow()
}

export async function showMoreUploads() {
  await focusingOnMore($("uploads"), () => {
    quietShown += 5 * STEP
    draw()
  })
}

/** Show more in a list, and go on reading there. */
async function focusingOnMore(list, show) {
  const last = list.lastElementChild
  await show()
  last?.nextElementSibling?.querySelector("h3").focus()
}

/** Upload files: each to the asset it was going to before, if there is one, or to a new one. */
export async function uploadAll(files) {
  for await (const file of files) {
    const known = cards.find((card) => (card.isUnsent || card.elsewhere) && card.isOf(file))
    if (known) await goOn(known, file)
    else enqueue(new Card({ file, project: chosenProject(), page }))
  }
}

async function goOn(card, file) {
  if (card.upload || card.elsewhere) return say(`${card.name} is on its way already`)
  await card.attempt(() => card.goOnWith(file))
}

function enqueue(card) {
  // Before what was left unfinished: people look for what they have chosen at the top.
  const firstOld = cards.findIndex((one) => !one.upload)
  cards.splice(firstOld < 0 ? cards.length : firstOld, 0, card)
  queue.startNext()
  drawSoon()
}

/** Stop everything, and show nothing of it any more. */
export function clear() {
  for (const card of cards) {
    card.upload?.pause()
    card.isRemoved = true
  }
  cards = []
  queue.cards.clear()
  draw()
}
