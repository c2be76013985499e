// What axe has to say against a page.

import { readFileSync } from "node:fs"

const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8")

/** Against the page as it is now. */
export async function barriers(tab) {
  await tab.evaluate(AXE) // the page itself would not load it
  const { violations } = await tab.evaluate(() => window.axe.run())
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)
}
