// An upload in small chunks, which says how far it is after each. Every 8 MiB it waits for a line.
// node piecewise.mjs URL FILE KEY

import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { Upload } from "tus-js-client"

const [uploadUrl, path, key] = process.argv.slice(2)
const input = createInterface({ input: process.stdin })
const lines = input[Symbol.asyncIterator]()
const step = 8 * 1024 * 1024
let reached = 0
let stop = step

const upload = new Upload(readFileSync(path), {
  uploadUrl,
  chunkSize: 256 * 1024,
  retryDelays: [0, 100, 300, 1000, 1000, 1000],
  headers: { Authorization: `Bearer ${key}` },
  onBeforeRequest: async () => {
    if (reached < stop) return
    stop += step
    await lines.next()
  },
  onChunkComplete: (size, offset) => {
    reached = offset
    console.log(offset)
  },
  onSuccess: () => input.close(),
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
})
upload.start()
