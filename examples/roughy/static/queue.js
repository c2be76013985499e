// What is sent when, and how far all of it is.

import { Rate, bytes, duration } from "./tusasgi/words.js"

const AT_ONCE = 3 // a browser has six connections for a server, and the page needs some itself

/** The files of one go: what is added while others are on their way belongs to the same. */
export class Queue {
  constructor() {
    this.cards = new Set()
    this.rate = new Rate()
  }

  add(card) {
    if (!this.isUnderWay) this.cards.clear()
    this.cards.add(card)
  }

  remove(card) {
    this.cards.delete(card)
  }

  with(claim) {
    return [...this.cards].filter(claim)
  }

  hasOne(claim) {
    for (const card of this.cards) if (claim(card)) return true
    return false
  }

  get isRunning() {
    return this.hasOne((card) => card.isRunning)
  }

  get isUnderWay() {
    return this.hasOne((card) => card.isUnsent)
  }

  /** Leaving the page would lose something of it. */
  get isAtRisk() {
    return this.hasOne((card) => card.isAtRisk)
  }

  startNext() {
    const free = AT_ONCE - this.with((card) => card.isSending).length
    const waiting = this.with((card) => card.state === "waiting")
    for (const card of waiting.slice(0, Math.max(0, free))) card.upload.start()
  }

  pauseAll() {
    // The last first: none of them is to be started because another one has stopped.
    for (const card of this.with((card) => card.isRunning).reverse()) card.attempt(() => card.pause())
  }

  resumeAll() {
    for (const card of this.with((card) => card.state === "paused")) card.enqueue()
  }

  hurry() {
    for (const card of this.cards) card.upload.hurry()
  }

  /** Between 0 and 1. */
  get share() {
    const { sent, total } = this.sums()
    return total ? sent / total : 0
  }

  sums() {
    let [sent, total] = [0, 0]
    for (const card of this.cards) {
      if (card.state === "failed") continue
      total += card.total
      sent += card.hasArrived ? card.total : card.sent
    }
    return { sent, total }
  }

  inWords() {
    const failed = this.with((card) => card.state === "failed").length
    const arrived = this.with((card) => card.hasArrived).length
    const parts = this.isUnderWay ? [`${arrived} of ${this.cards.size.toLocaleString()} uploaded`, ...this.speedInWords()] : []
    if (!this.isUnderWay && arrived) parts.push(`${arrived} uploaded`)
    if (failed) parts.push(`${failed} failed`)
    return parts.join(" · ")
  }

  speedInWords() {
    const { sent, total } = this.sums()
    this.rate.add(sent)
    const rate = this.isRunning ? this.rate.value : 0
    const speed = rate ? [`${bytes(rate)}/s`, `${duration((total - sent) / rate)} left`] : []
    return [`${bytes(sent)} of ${bytes(total)}`, ...speed]
  }
}
