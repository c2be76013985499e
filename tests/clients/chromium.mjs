// Headless Chromium for all scenarios of a session, until the input ends: node chromium.mjs COMMAND
// Its first line of output is where it is.

import { chromium } from "playwright-core"

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
]

const server = await chromium.launchServer({
  executablePath: process.argv[2],
  headless: true,
  args: FLAGS,
})
process.stdin.on("end", () => server.close())
process.stdin.resume()
console.log(server.wsEndpoint())
