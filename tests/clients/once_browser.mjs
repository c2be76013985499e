// A client of the browser world in Chromium, on a page of the server itself.
// node once_browser.mjs CLIENT URL FILE

import { buildSync } from "esbuild"
import { scenario } from "./browser.mjs"

const [client, url, file] = process.argv.slice(2)
const entry = new URL("once_page.mjs", import.meta.url).pathname
const [script] = buildSync({ entryPoints: [entry], bundle: true, write: false }).outputFiles
const body = "<!doctype html><title></title><body>"

await scenario(async (tab, say) => {
  await tab.route("**/page", (route) => route.fulfill({ contentType: "text/html", body }))
  await tab.goto(`${url}/page#${client}`)
  await tab.addScriptTag({ content: script.text })
  await tab.setInputFiles("input", file)
  await tab.waitForFunction(() => document.title, undefined, { timeout: 60_000 })
  say("end", await tab.title())
})
