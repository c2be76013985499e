// tus-js-client in Node, told where to create uploads, and otherwise as it comes.
// node once.mjs ENDPOINT FILE

import { createReadStream } from "node:fs"
import { Upload } from "tus-js-client"

const [endpoint, file] = process.argv.slice(2)

const upload = new Upload(createReadStream(file), {
  endpoint,
  chunkSize: 1024 * 1024,
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
  onSuccess: () => console.log(upload.url),
})
upload.start()
