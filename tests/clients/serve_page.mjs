// What people do on the pages of `tusasgi serve --page`: node serve_page.mjs NAME URL MONITOR FILE…

import { barriers } from "./axe.mjs"
import { drop, scenario } from "./browser.mjs"

const [name, url, monitor, ...files] = process.argv.slice(2)

const button = (tab, text) => tab.getByRole("button", { name: text })
const state = (tab, value) => tab.waitForSelector(`[data-state=${value}]`)
const errors = (tab) => tab.locator("#list .error").allTextContents()
const shot = (tab, what) =>
  process.env.SHOTS && tab.screenshot({ path: `${process.env.SHOTS}/${what}.png`, fullPage: true })
const moreThan = (tab, share) =>
  tab.waitForFunction((share) => document.querySelector("progress")?.value > share, share)

/** Every PATCH that the page sends, by its offset. */
function patches(tab) {
  const offsets = []
  tab.on("request", (request) => {
    if (request.method() === "PATCH") offsets.push(Number(request.headers()["upload-offset"]))
  })
  return offsets
}

const digest = (tab) =>
  tab.evaluate(async () => {
    const answer = await fetch(document.querySelector(".open").href)
    const hash = await crypto.subtle.digest("SHA-256", await answer.arrayBuffer())
    return [...new Uint8Array(hash)].map((one) => one.toString(16).padStart(2, "0")).join("")
  })

const scenarios = {
  /** A bad network, a pause, a reload, another file by mistake, and deletion; by keyboard; a folder. */
  async resumed(tab, say, browser) {
    const offsets = patches(tab)
    await tab.goto(url)
    await shot(tab, "empty")
    const found = await barriers(tab)
    await tab.keyboard.press("Tab")
    say("focus", await tab.evaluate(() => document.activeElement.id))
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.1)
    await button(tab, "Pause").press("Enter")
    await state(tab, "paused")
    await shot(tab, "paused")
    const other = await browser.newPage()
    await other.goto(url)
    say("elsewhere", await (await state(other, "elsewhere")).innerText())
    await other.close()
    found.push(...(await barriers(tab)))
    await button(tab, "Resume").press("Enter")
    await moreThan(tab, 0.5)
    await shot(tab, "uploading")
    tab.on("dialog", (dialog) => dialog.accept()) // of leaving, and of deletion
    await tab.reload()
    await state(tab, "unfinished")
    await shot(tab, "unfinished")
    await tab.setInputFiles(".choose input", files[1])
    say("other", await errors(tab))
    await tab.setInputFiles(".choose input", files[0])
    await state(tab, "complete")
    await shot(tab, "complete")
    say("barriers", [...found, ...(await barriers(tab))])
    say("offsets", [...offsets])
    say("digest", await digest(tab))
    say("name", await tab.locator("#list h3").textContent())
    await button(tab, "Delete").press("Enter")
    await tab.waitForSelector("#empty:not([hidden])")
    say("remembered", await tab.evaluate(() => localStorage.getItem("tusasgi:uploads")))
    await drop(tab, browser, files[2])
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=complete]").length === 2)
    say("dropped", await tab.locator("#list h3").allTextContents())
  },

  /** A key that is asked for, a wrong one first, a file that is too large, and one that is not. */
  async key(tab, say) {
    await tab.goto(url)
    await tab.setInputFiles("#files", files[0])
    for (const given of ["a wrong key of some length", process.env.KEY]) {
      await tab.waitForSelector("#access:not([hidden])")
      await shot(tab, "key")
      await tab.fill("#key", given)
      await tab.keyboard.press("Enter")
    }
    await state(tab, "complete")
    say("open", await tab.locator(".open").isVisible())
    say("errors", await errors(tab))
    await tab.setInputFiles("#files", files[1])
    await state(tab, "failed")
    await shot(tab, "failed")
    say("barriers", await barriers(tab))
    say("refused", await errors(tab))
  },

  /** What whoever shows an upload hears of it, whose connection is cut, and which is paused. */
  async told(tab, say) {
    await tab.goto(url)
    const changes = await tab.evaluate(async (size) => {
      const { Upload } = await import("./page/upload.js")
      const changes = []
      const onChange = ({ state, offset, sent }) => changes.push([state, offset, sent])
      const upload = new Upload(new File([new Uint8Array(size)], "x"), { collection: "files/", onChange })
      await upload.start()
      return changes
    }, Number(files[0]))
    say("changes", changes)
  },

  /** What the monitor shows of an upload while it is under way, on a small dark screen. */
  async live(tab, say, browser) {
    const seen = await browser.newPage()
    await seen.emulateMedia({ colorScheme: "dark" })
    await seen.setViewportSize({ width: 390, height: 800 })
    await seen.goto(monitor)
    await tab.goto(url)
    await tab.setInputFiles("#files", files[0])
    await seen.waitForSelector("tr[data-state=receiving] progress")
    await seen.waitForFunction(() => document.querySelectorAll("td")[3].textContent.endsWith("/s"))
    say("row", await seen.locator("tbody td").allTextContents())
    say("wide", await seen.evaluate(() => document.documentElement.scrollWidth))
    await shot(seen, "live")
    say("barriers", await barriers(seen))
    await state(tab, "complete")
    await seen.waitForSelector("tr[data-state=complete]")
    say("whole", await seen.content())
    await tab.setViewportSize({ width: 390, height: 800 })
    await tab.emulateMedia({ colorScheme: "dark" })
    await shot(tab, "small")
    say("small", await tab.evaluate(() => document.documentElement.scrollWidth))
  },
}

await scenario(scenarios[name])
