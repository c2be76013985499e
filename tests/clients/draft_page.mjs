// tus-js-client on a page: bundled for Chromium by draft_browser.mjs.

import { begin, goOn, play } from "./draft.mjs"

const input = document.body.appendChild(document.createElement("input"))
input.type = "file"

const source = {
  get size() {
    return input.files[0].size
  },
  file: () => input.files[0],
  bytes: (size) => input.files[0].slice(0, Math.min(size, source.size)),
  stream: () => input.files[0].stream().getReader(),
}

window.play = (names, options) => play(names, source, options)
window.begin = (options) => begin(source, options)
window.goOn = (options) => goOn(source, options)
