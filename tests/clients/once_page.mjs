// A page that sends the chosen file with the client whose name is its fragment: bundled for
// Chromium by once_browser.mjs. Its title is the end: the URL of the upload, or what went wrong.

import Uppy from "@uppy/core"
import Tus from "@uppy/tus"
import { Upload } from "tus-js-client"

const endpoint = "/files/"
const chunkSize = 1024 * 1024
const end = (what) => (document.title = what)

const clients = {
  "tus-js-client": (file) => {
    const upload = new Upload(file, {
      endpoint,
      chunkSize,
      onError: (error) => end(String(error)),
      onSuccess: () => end(upload.url),
    })
    upload.start()
  },
  uppy: async (file) => {
    const uppy = new Uppy().use(Tus, { endpoint, chunkSize })
    uppy.addFile({ name: file.name, data: file })
    const { successful, failed } = await uppy.upload()
    end(failed.length ? String(failed[0].error) : successful[0].uploadURL)
  },
}

const input = document.createElement("input")
input.type = "file"
input.addEventListener("change", () => clients[location.hash.slice(1)](input.files[0]))
document.body.append(input)
