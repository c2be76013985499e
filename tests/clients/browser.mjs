// One scenario in the Chromium at $CHROMIUM (chromium.mjs), and in a profile of its own:
// `await scenario(async (tab, say) => …)`.
// The last line of the output is JSON: what `say` was given, and what the page logged.

import { chromium } from "playwright-core"

export async function scenario(play) {
  const shared = await chromium.connect(process.env.CHROMIUM)
  const browser = await shared.newContext({ viewport: { width: 1100, height: 900 } })
  const told = {}
  const logged = []
  try {
    const tab = await browser.newPage()
    tab.setDefaultTimeout(15_000)
    tab.on("console", (message) => logged.push(`${message.type()}: ${message.text()}`))
    tab.on("pageerror", (error) => logged.push(`uncaught: ${error.message}`))
    await play(tab, (name, value) => (told[name] = value), browser)
  } finally {
    console.log(JSON.stringify({ ...told, logged }))
    await browser.close()
    await shared.close() // the connection
  }
}

/** Drop files or folders on the drop zone, from outside of the browser. */
export async function drop(tab, browser, ...paths) {
  const devtools = await browser.newCDPSession(tab)
  await tab.locator("#drop").scrollIntoViewIfNeeded()
  const { x, y, width, height } = await tab.locator("#drop").boundingBox()
  const data = { items: [], files: paths, dragOperationsMask: 1 }
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await devtools.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data })
  }
}
