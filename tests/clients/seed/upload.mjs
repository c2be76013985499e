// The upload in JavaScript as Roughy's guide prints it. Above the line: what Node needs to have a
// `file` with a `size`, as a browser has it.
import { readFileSync } from "node:fs"

const ROUGHY_API_KEY = "sk_…"
const file = readFileSync("/path/to/video.mp4")
file.size = file.length
// ----------------------------------------------------------------------------
import * as tus from "tus-js-client"

const PROJECT_ID = "019de7f5-7e21-7402-92a8-1c0e1fa84411"

// Step 1 — create the asset via the REST endpoint.
const createResp = await fetch("https://api.roughy.ai/v1/assets", {
  method: "POST",
  headers: {
    Authorization: `Bearer ${ROUGHY_API_KEY}`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify({
    project_id: PROJECT_ID,
    size_bytes: file.size,
  }),
})
if (!createResp.ok) throw new Error(`create failed: ${createResp.status}`)
const asset = await createResp.json()
const uploadUrl = createResp.headers.get("Location") // the TUS transfer URL

// Step 2 — stream the file to the pre-allocated TUS URL.
// `uploadUrl` (not `endpoint`) tells tus-js-client to use an existing upload.
const upload = new tus.Upload(file, {
  uploadUrl,
  headers: {
    Authorization: `Bearer ${ROUGHY_API_KEY}`,
  },
  chunkSize: 50 * 1024 * 1024, // 50 MiB — sensible default for residential uplinks
  retryDelays: [0, 3000, 5000, 10000, 20000],
  onProgress: (sent, total) => {
    console.log(`${((sent / total) * 100).toFixed(1)}%`)
  },
  onSuccess: () => {
    console.log("uploaded asset:", asset.id)
  },
  onError: (err) => {
    console.error("upload failed:", err)
  },
})

upload.start()
