// What went wrong, in words for people.

import { Refusal, Unreadable } from "./tusasgi/upload.js"
import { sentence } from "./tusasgi/words.js"

/** Something that the page itself has to say. */
export class Problem extends Error {}

const OF_CODES = {
  conflict: "Roughy does not take this: it is not audio or video of a kind that it knows.",
  insufficient_credits: "There are no credits left. Add some, then go on.",
  insufficient_storage: "Roughy has no room left for this file. Try again later.",
  internal_error: "Something went wrong on the server. Try again; what has arrived is safe.",
  locked: "Roughy is busy with this upload. Try again in a moment.",
  no_media_stream: "There is neither sound nor picture in this file.",
  not_found: "It is not there any more: it was deleted, or has expired.",
  payload_too_large: "This file is too large: Roughy takes up to 50 GiB.",
  unauthenticated: "Roughy does not know this key.",
  unavailable: "Roughy cannot do this at the moment. Try again in a moment.",
  unreadable_media: "This file cannot be played: it is damaged, or not all of it is there.",
  unsupported_media: "This is not audio or video of a kind that Roughy knows.",
}
const OF_FIELDS = {
  "body.name": "A name has 1 to 256 characters.",
  "body.size_bytes": "This file is too small to be audio or video.",
}
const OF_STATUS = { 0: "Roughy cannot be reached. Check the connection.", 401: OF_CODES.unauthenticated, 423: OF_CODES.locked }

/** What to tell of an error; throw one that nobody but a programmer can do anything about. */
export function inWords(error) {
  if (error instanceof Unreadable) return "This file cannot be read. Was it moved, renamed or changed? Choose it again."
  if (error instanceof Problem) return error.message
  if (!(error instanceof Refusal)) throw error
  const { code, message, fields = [] } = errorIn(error.message)
  const ofField = OF_FIELDS[fields[0]?.field]
  return ofField ?? OF_STATUS[error.status] ?? failureInWords(code, message ?? `the server answered ${error.status}`)
}

/** What to tell of a code that Roughy gives, which may be newer than this page. */
export const failureInWords = (code, message) => OF_CODES[code] ?? sentence(message)

export const isOutOfCredits = (error) => error.status === 402

function errorIn(body) {
  try {
    return JSON.parse(body).error ?? {}
  } catch {
    return {} // a proxy has answered
  }
}
