// Headless Chromium for one scenario: `await scenario(async (tab, say) => …)`.
// The last line of the output is JSON: what `say` was given, and what the page logged.

import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { chromium } from "playwright-core"

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
]

export async function scenario(play, options = {}) {
  const profile = mkdtempSync(join(tmpdir(), "chromium-"))
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: FLAGS,
    viewport: { width: 1100, height: 900 },
    ...options,
  })
  const told = {}
  const logged = []
  try {
    const tab = browser.pages()[0]
    tab.setDefaultTimeout(15_000)
    tab.on("console", (message) => logged.push(`${message.type()}: ${message.text()}`))
    tab.on("pageerror", (error) => logged.push(`uncaught: ${error.message}`))
    await play(tab, (name, value) => (told[name] = value), browser)
  } finally {
    console.log(JSON.stringify({ ...told, logged }))
    await browser.close()
    rmSync(profile, { recursive: true, force: true })
  }
}
