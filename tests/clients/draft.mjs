// What tus-js-client is put through in Node and in Chromium, in any of its protocols.

import { Upload } from "tus-js-client"

const CHUNK = 200_000
// As most pages do; in interop version 6 it also tells that the length is the end.
const metadata = { filename: "film.mp4" }
const COMMON = { retryDelays: [0, 50, 100, 200, 400], metadata }

/** Upload to the end, unless `during` does something else after the second chunk. */
function send(source, options, during) {
  return new Promise((resolve, reject) => {
    const upload = new Upload(source, {
      ...COMMON,
      removeFingerprintOnSuccess: true,
      onChunkComplete: (_, offset) => {
        if (offset !== 2 * CHUNK || !during) return
        setTimeout(during, 0, upload, resolve, reject) // when the third is on its way
        during = undefined
      },
      ...options,
      onError: reject,
      onSuccess: () => resolve(upload.url),
    })
    upload.start()
  })
}

async function pause(upload) {
  await upload.abort()
  upload.start()
}

function terminate(upload, resolve, reject) {
  upload.abort(true).then(() => resolve(upload.url), reject)
}

const inChunks = { chunkSize: CHUNK }
const withCreation = { uploadDataDuringCreation: true }
const deferred = { uploadLengthDeferred: true, ...inChunks }

// `source` makes a file, bytes of a size, or a stream of all bytes.
const scenarios = {
  whole: (source, options) => send(source.file(), options),
  chunked: (source, options) => send(source.file(), { ...options, ...inChunks }),
  paused: (source, options) => send(source.file(), { ...options, ...inChunks }, pause),
  terminated: (source, options) => send(source.file(), { ...options, ...inChunks }, terminate),
  empty: (source, options) => send(source.bytes(0), options),
  five: (source, options) => send(source.bytes(5), options),
  created: (source, options) => send(source.file(), { ...options, ...withCreation }),
  createdEmpty: (source, options) => send(source.bytes(0), { ...options, ...withCreation }),
  createdChunked: (source, options) =>
    send(source.file(), { ...options, ...withCreation, ...inChunks }),
  deferred: (source, options) => send(source.bytes(Infinity), { ...options, ...deferred }),
  streamed: (source, options) => send(source.stream(), { ...options, ...deferred }),
  sized: (source, options) =>
    send(source.stream(), { ...options, ...inChunks, uploadSize: source.size }),
  parallel: (source, options) =>
    send(source.file(), { ...options, parallelUploads: 2 }).catch(
      (error) => error.originalResponse.getStatus(),
    ),
}

/** Play the scenarios one after the other; return the URL that each ends with. */
export async function play(names, source, options) {
  const urls = {}
  for (const name of names) urls[name] = await scenarios[name](source, options)
  return urls
}

/** Resolve in the middle of an upload that then does not go on. */
export function begin(source, options) {
  return new Promise((resolve, reject) => {
    const upload = new Upload(source.file(), {
      ...COMMON,
      ...inChunks,
      ...options,
      onChunkComplete: (_, offset) => {
        if (offset < 2 * CHUNK) return
        upload.abort()
        resolve(upload.url)
      },
      onError: reject,
    })
    upload.start()
  })
}

/** Go on with what another process, or the page before it was closed, has begun. */
export function goOn(source, options) {
  return new Promise((resolve, reject) => {
    const upload = new Upload(source.file(), {
      ...COMMON,
      ...inChunks,
      removeFingerprintOnSuccess: true,
      ...options,
      onError: reject,
      onSuccess: () => resolve(upload.url),
    })
    upload.findPreviousUploads().then(([found]) => {
      upload.resumeFromPreviousUpload(found)
      upload.start()
    }, reject)
  })
}
