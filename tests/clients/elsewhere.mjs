// A page of another origin runs the upload of Roughy's guide as it is printed.
// node elsewhere.mjs PAGE FILE

import { scenario } from "./browser.mjs"

const [page, file] = process.argv.slice(2)

await scenario(async (tab, say) => {
  const lines = []
  tab.on("console", (message) => lines.push(message.text()))
  await tab.goto(page)
  await tab.setInputFiles("input", file)
  await tab.waitForFunction(() => document.title === "ended")
  say("lines", lines)
})
