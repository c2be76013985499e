// tus-js-client sends a file in several partial uploads at once, and has them joined.
// node parallel.mjs ENDPOINT FILE

import { readFileSync } from "node:fs"
import { Upload } from "tus-js-client"

const [endpoint, file] = process.argv.slice(2)

const upload = new Upload(readFileSync(file), {
  endpoint,
  parallelUploads: 4,
  chunkSize: 700_000,
  retryDelays: [0, 50, 100, 200],
  metadata: { filename: "film.mp4" },
  onError: (error) => {
    console.error(String(error))
    process.exitCode = 1
  },
  onSuccess: () => console.log(upload.url),
})
upload.start()
