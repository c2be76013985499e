// tus-js-client in Chromium, on a page of another origin than the one that it uploads to.
// node draft_browser.mjs PAGE FILE RUNS NAME…, where RUNS has the options of each run by its name.

import { buildSync } from "esbuild"
import { scenario } from "./browser.mjs"

const [page, file, json, ...names] = process.argv.slice(2)
const entry = new URL("draft_page.mjs", import.meta.url).pathname
const [script] = buildSync({ entryPoints: [entry], bundle: true, write: false }).outputFiles

async function open(tab) {
  await tab.goto(page)
  await tab.addScriptTag({ content: script.text })
  await tab.setInputFiles("input", file)
}

await scenario(async (tab, say) => {
  for (const [name, options] of Object.entries(JSON.parse(json))) {
    await open(tab)
    const urls = await tab.evaluate((given) => window.play(...given), [names, options])
    const begun = await tab.evaluate((options) => window.begin(options), options)
    await open(tab)
    const reopened = await tab.evaluate((options) => window.goOn(options), options)
    say(name, { ...urls, begun, reopened })
  }
})
