// tus-js-client in Node, told where to create uploads, and otherwise as it comes.
// node once.mjs ENDPOINT FILE, perhaps through the unix socket that SOCKET names

import { createReadStream } from "node:fs"
import { DefaultHttpStack, Upload } from "tus-js-client"

const [endpoint, file] = process.argv.slice(2)

const upload = new Upload(createReadStream(file), {
  endpoint,
  httpStack: new DefaultHttpStack({ socketPath: process.env.SOCKET }),
  chunkSize: 1024 * 1024,
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
  onSuccess: () => console.log(upload.url),
})
upload.start()
