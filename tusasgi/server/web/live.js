// The page of the monitor: what the workers tell of uploads, as it comes.

import { Rate, bytes, duration } from "./words.js"

const $ = (id) => document.getElementById(id)
const rates = new Map()

/** Bytes a second of an upload; what was not heard of again is forgotten. */
function rateOf({ id, offset }) {
  if (!rates.has(id)) rates.set(id, new Rate())
  rates.get(id).add(offset)
  return rates.get(id).value
}

function cell(text, kind = "") {
  const element = document.createElement("td")
  element.textContent = text
  element.className = kind
  if (kind === "name") element.title = text
  return element
}

function progress({ name, offset, length }) {
  const element = cell("", "number")
  if (length) {
    const bar = document.createElement("progress")
    bar.value = offset / length
    bar.setAttribute("aria-label", `Progress of ${name || "an upload without a name"}`)
    element.append(bar)
  }
  element.append(length === null ? `${bytes(offset)}, length not known yet` : `${bytes(offset)} of ${bytes(length)}`)
  return element
}

function row(upload) {
  const element = document.createElement("tr")
  element.dataset.state = upload.state
  const rate = rateOf(upload)
  const isRunning = upload.state === "receiving"
  element.append(
    cell(upload.name || "(no name)", "name"),
    cell(upload.owner ?? "", "name"),
    progress(upload),
    cell(isRunning && rate ? `${bytes(rate)}/s` : "", "number"),
    cell(duration(upload.age), "number"),
    cell(upload.state, "state"),
    cell(`${upload.id}…`, "number"),
  )
  return element
}

function show(uploads) {
  for (const id of rates.keys()) if (!uploads.some((one) => one.id === id)) rates.delete(id)
  $("uploads").replaceChildren(...uploads.map(row))
  $("empty").hidden = uploads.length > 0
  const running = uploads.filter(({ state }) => state === "receiving")
  $("summary").textContent = `${running.length} receiving, ${uploads.length} shown`
}

const events = new EventSource("events")
events.onmessage = (event) => {
  $("trouble").textContent = ""
  show(JSON.parse(event.data))
}
events.onerror = () => ($("trouble").textContent = "The monitor does not answer; this is what it said last.")
