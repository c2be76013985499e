// The REST half of Roughy.

import { Refusal, refusalOf } from "./tusasgi/upload.js"

const TUS = { "Tus-Resumable": "1.0.0" }
const MOST = 100 // items that one answer may have

let key = null

export const useKey = (given) => (key = given)
export const keyInShort = () => `${key.slice(0, 7)}…`
export const authorization = () => ({ Authorization: `Bearer ${key}` })

/** Return the answer; throw a `Refusal` for none and for one that says no. */
export async function call(method, path, { body, headers, signal } = {}) {
  const url = new URL(path, new URL("v1/", document.baseURI))
  const type = body ? { "Content-Type": "application/json" } : {}
  const options = { method, headers: { ...authorization(), ...type, ...headers }, signal }
  const answer = await fetch(url, { ...options, body: body && JSON.stringify(body) }).catch(() => {
    signal?.throwIfAborted()
    throw new Refusal(0)
  })
  if (!answer.ok) throw await refusalOf(answer)
  return answer
}

export const read = async (path) => (await call("GET", path)).json()

/** Every item of a list, however many answers that takes. */
export async function readAll(path) {
  const items = []
  for (;;) {
    const page = await read(`${path}limit=${MOST}&offset=${items.length}`)
    items.push(...page.items)
    if (page.items.length < MOST) return items
  }
}

/** How much of an upload has arrived, and of how much. */
export async function progressOf(uploadUrl) {
  const { headers } = await patiently(() => call("HEAD", uploadUrl, { headers: TUS }))
  return { sent: Number(headers.get("Upload-Offset")), total: Number(headers.get("Upload-Length")) }
}

/** Ask again while the upload is busy, which passes. */
async function patiently(ask) {
  for (const seconds of [1, 3, 5, 10]) {
    try {
      return await ask()
    } catch (refusal) {
      if (refusal.status !== 423) throw refusal
    }
    await sleep(seconds)
  }
  return ask()
}

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds))

export const deleteAsset = (id) => call("DELETE", `assets/${id}`)
export const cancelUpload = (id) => call("DELETE", `uploads/${id}`, { headers: TUS })
