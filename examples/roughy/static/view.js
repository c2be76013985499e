// How a card looks.

import { bytes, duration } from "./tusasgi/words.js"
import { nameOf } from "./projects.js"

/** The element of a card, which `draw` brings up to date. */
export class View {
  constructor(card) {
    this.card = card
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true)
    this.connect()
    this.draw()
  }

  part(selector) {
    return this.element.querySelector(selector)
  }

  connect() {
    const { card } = this
    const actions = {
      toggle: () => card.toggle(),
      play: () => card.play(),
      download: () => card.download(),
      remove: () => card.remove(),
    }
    for (const button of this.element.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => card.attempt(actions[button.dataset.do]))
    }
    const input = this.part(".choose input")
    if (card.asset) input.id = `file-${card.asset.id}`
    input.addEventListener("change", () => input.files[0] && card.attempt(() => card.goOnWith(input.files[0])))
    this.part(".poster").addEventListener("error", (event) => (event.target.hidden = true))
  }

  draw() {
    const { card } = this
    this.element.dataset.state = card.elsewhere ? "elsewhere" : card.state
    this.part("h3").textContent = card.name
    this.part(".state").textContent = card.stateInWords
    this.part(".project").textContent = card.isOfOtherProject ? `In ${nameOf(card.project)}` : ""
    this.part(".numbers").textContent = numbersOf(card)
    this.part(".error").textContent = card.problem
    this.drawProgress(card)
    this.drawPoster(card)
    this.drawButtons(card)
  }

  drawProgress({ isUnsent, state, sent, total, name }) {
    const progress = this.part("progress")
    progress.hidden = !isUnsent || state === "waiting"
    progress.value = total ? sent / total : 0
    progress.setAttribute("aria-label", `Progress of ${name}`)
  }

  drawPoster({ asset }) {
    const poster = this.part(".poster")
    if (!asset?.poster_url || poster.src) return
    poster.src = asset.poster_url
    poster.hidden = false
  }

  drawButtons(card) {
    const focused = this.element.contains(document.activeElement) ? document.activeElement : null
    const { state, name } = card
    const isHere = !card.elsewhere
    const isThere = {
      toggle: card.isRunning || state === "paused" || card.mayTryAgain,
      play: state === "ready" && !this.part(".player").hasChildNodes(),
      download: state === "ready",
      remove: isHere && !card.isBeingPrepared,
    }
    const labels = labelsOf(card)
    for (const button of this.element.querySelectorAll("[data-do]")) {
      button.hidden = !isThere[button.dataset.do]
      button.textContent = labels[button.dataset.do]
      button.setAttribute("aria-label", `${button.textContent}: ${name}`)
    }
    this.part(".choose").hidden = !isHere || !card.mayBeChosen
    this.part(".choose input").setAttribute("aria-label", `Choose the file to resume: ${name}`)
    if (focused?.closest("[hidden]")) (this.part("[data-do]:not([hidden])") ?? this.part("h3")).focus()
  }

  show(player) {
    this.part(".player").replaceChildren(player)
    player.focus()
  }
}

function labelsOf({ state, isOnServer, isUpload }) {
  return {
    toggle: { paused: "Resume", failed: "Try again" }[state] ?? "Pause",
    play: "Play",
    download: "Download",
    remove: !isOnServer ? "Remove from list" : isUpload ? "Cancel upload" : "Delete",
  }
}

function numbersOf(card) {
  const { state, asset, total } = card
  if (card.isUnsent && state !== "waiting") return total ? progressOf(card) : ""
  if (card.isUnsent || !asset) return bytes(total)
  const kind = asset.extension ? `${asset.extension.toUpperCase()} ${asset.type ?? ""}`.trim() : ""
  const seconds = asset.duration_seconds && duration(Number(asset.duration_seconds))
  return [kind, seconds, bytes(asset.size_bytes ?? total)].filter(Boolean).join(" · ")
}

function progressOf({ state, sent, total, rate }) {
  const speed = state === "uploading" ? rate.value : 0
  const left = speed ? [`${bytes(speed)}/s`, `${duration((total - sent) / speed)} left`] : []
  return [`${bytes(sent)} of ${bytes(total)}`, ...left].join(" · ")
}
