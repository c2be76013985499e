// tus-js-client in Node: scenarios by their names, or `begin` and `goOn`, each a process.
// node draft_node.mjs FILE OPTIONS NAME…

import { createReadStream, readFileSync, statSync } from "node:fs"
import { Readable } from "node:stream"
import { FileUrlStorage } from "tus-js-client"
import { begin, goOn, play } from "./draft.mjs"

const [path, json, ...names] = process.argv.slice(2)
const options = JSON.parse(json)
const source = {
  size: statSync(path).size,
  file: () => createReadStream(path),
  bytes: (size) => readFileSync(path).subarray(0, size),
  // Without a path, as from a socket; from a path, the client would open the file itself.
  stream: () => Readable.from(createReadStream(path), { objectMode: false }),
}
const alone = { begin, goOn }[names[0]]
const urlStorage = new FileUrlStorage(`${path}.urls`)
const urls = alone
  ? { [names[0]]: await alone(source, { ...options, urlStorage }) }
  : await play(names, source, options)
console.log(JSON.stringify(urls))
process.exit() // what was begun ends here
