// What people do on the page; each scenario is called by its name: node page.mjs NAME URL KEY FILE…

import { rmSync } from "node:fs"

import { barriers } from "./axe.mjs"
import { drop, scenario } from "./browser.mjs"

const [name, url, key, ...files] = process.argv.slice(2)

const button = (tab, text) => tab.getByRole("button", { name: text, exact: true })
const state = (tab, value, options) => tab.waitForSelector(`[data-state=${value}]`, options)
const numbers = (tab) => tab.locator(".numbers").first().textContent()
const errors = (tab) => tab.locator(".card .error").allTextContents()
const titles = (tab, list) => tab.locator(`${list} h3`).allTextContents()
const focused = (tab) => tab.evaluate(() => document.activeElement.id || document.activeElement.textContent)

/** Keep a picture of the page where that is wanted, and what axe has against it. */
async function look(tab, what) {
  if (process.env.SHOTS) await tab.screenshot({ path: `${process.env.SHOTS}/${what}.png`, fullPage: true })
  found.push(...(await barriers(tab)).map((barrier) => `${what}: ${barrier}`))
}

const found = []

/** As it is on a phone, in the dark. */
async function lookOnPhone(tab, what) {
  await tab.setViewportSize({ width: 390, height: 844 })
  await tab.emulateMedia({ colorScheme: "dark" })
  await look(tab, `${what}-phone`)
  const width = await tab.evaluate(() => document.documentElement.scrollWidth)
  if (width > 390) found.push(`${what}: ${width} pixels wide`)
  await tab.emulateMedia({ colorScheme: "light" })
  await tab.setViewportSize({ width: 1100, height: 900 })
}

async function signIn(tab, as = key) {
  await tab.goto(`${url}#key=${as}`)
  await tab.waitForSelector("#signed-in:not([hidden]) #account:not(:empty)")
}

/** Every PATCH that the page sends, by its offset. */
function patches(tab) {
  const offsets = []
  tab.on("request", (request) => {
    if (request.method() === "PATCH") offsets.push(Number(request.headers()["upload-offset"]))
  })
  return offsets
}

async function moreThan(tab, share) {
  await tab.waitForFunction((share) => document.querySelector(".card progress")?.value > share, share)
}

/** What the server has of the only upload. */
async function offset(tab) {
  const id = (await tab.locator(".choose input").getAttribute("id")).slice("file-".length)
  const ask = async ([id, key]) => {
    const headers = { Authorization: `Bearer ${key}`, "Tus-Resumable": "1.0.0" }
    const answer = await fetch(`v1/uploads/${id}`, { method: "HEAD", headers })
    return Number(answer.headers.get("Upload-Offset"))
  }
  return tab.evaluate(ask, [id, key])
}

/** Let the browser send slowly; a slow server would only fill the buffers on the way. */
async function slowDown(tab, browser, bytesPerSecond = 2_500_000) {
  const devtools = await browser.newCDPSession(tab)
  await devtools.send("Network.enable")
  await devtools.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 0,
    downloadThroughput: -1,
    uploadThroughput: bytesPerSecond,
  })
}

const scenarios = {
  /** Only the keyboard, up to the file dialog. */
  async keyboard(tab, say) {
    tab.on("filechooser", (chooser) => chooser.setFiles(files[0]))
    await tab.goto(url)
    await tab.keyboard.type(key) // the field has the focus
    await tab.keyboard.press("Enter")
    await tab.waitForSelector("#signed-in:not([hidden])")
    const press = async (...keys) => {
      for (const one of keys) await tab.keyboard.press(one)
      return focused(tab)
    }
    say("first", await tab.locator("form:visible").count())
    await look(tab, "first-visit")
    await tab.waitForFunction(() => document.activeElement.id === "upload-title")
    const reached = [await press("Tab"), await press("Tab"), await press("Enter")]
    await tab.keyboard.type("By keyboard")
    await look(tab, "new-project")
    await tab.keyboard.press("Enter")
    await tab.waitForFunction(() => document.activeElement.id === "project")
    reached.push(await press("Tab"), await press("Tab"))
    say("reached", reached)
    say("outline", await tab.evaluate(() => getComputedStyle(document.querySelector("#drop")).outlineStyle))
    await tab.keyboard.press("Enter") // opens the file dialog
    await state(tab, "ready")
    say("project", await tab.locator("#project option:checked").textContent())
    say("heading", await tab.locator("#assets-title").textContent())
    await button(tab, "New project").press("Enter")
    await tab.keyboard.type("Another")
    await tab.keyboard.press("Enter")
    await tab.locator("#assets-title", { hasText: "Another" }).waitFor()
    say("elsewhere", [await tab.locator("#assets > li").count(), await tab.locator("#uploads .project").textContent()])
  },

  /** Pause, go on, reload, go on, see it ready, play it, download it. */
  async reload(tab, say, browser) {
    await slowDown(tab, browser)
    const offsets = patches(tab)
    const dialogs = []
    tab.on("dialog", (dialog) => (dialogs.push(dialog.type()), dialog.accept()))
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.1)
    await tab.waitForFunction(() => / left$/.test(document.querySelector(".numbers").textContent))
    say("numbers", await numbers(tab))
    await look(tab, "uploading")
    await button(tab, "Pause: clip.mp4").click()
    await state(tab, "paused")
    say("focus", await focused(tab))
    await look(tab, "paused")
    await tab.waitForTimeout(500) // what is on its way arrives, and nothing more
    const paused = await offset(tab)
    await tab.waitForTimeout(300)
    say("stands", paused > 0 && (await offset(tab)) === paused)
    await button(tab, "Resume: clip.mp4").click()
    await moreThan(tab, 0.4)
    await tab.reload()
    await state(tab, "unfinished")
    say("asked", dialogs)
    await tab.waitForFunction(() => /^[1-9]/.test(document.querySelector(".numbers").textContent))
    say("title", await tab.locator("h3").textContent())
    await look(tab, "unfinished")
    await lookOnPhone(tab, "unfinished")
    await tab.setInputFiles(".choose input", files[1])
    await tab.waitForSelector(".card .error:not(:empty)")
    say("other", await errors(tab))
    await tab.setInputFiles(".choose input", files[0])
    await state(tab, "ready", { timeout: 30_000 })
    say("offsets", offsets)
    say("status", await tab.locator("#status").textContent())
    say("players", await tab.locator("video").count())
    await button(tab, "Play: clip.mp4").click()
    await tab.waitForFunction(() => document.querySelector("video")?.currentTime > 0.2)
    say("duration", await tab.locator("video").evaluate((video) => video.duration))
    await lookOnPhone(tab, "ready")
    await tab.setViewportSize({ width: 360, height: 740 })
    say("width", await tab.evaluate(() => document.documentElement.scrollWidth))
    const started = tab.waitForEvent("download")
    await button(tab, "Download: clip.mp4").click()
    say("download", (await started).suggestedFilename())
  },

  /** Choosing the file again where new ones are chosen finds the unfinished upload. */
  async again(tab, say, browser) {
    await slowDown(tab, browser)
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.2)
    await tab.reload()
    await state(tab, "unfinished")
    const offsets = patches(tab)
    await tab.setInputFiles("#files", files[0])
    await state(tab, "ready", { timeout: 30_000 })
    say("offsets", offsets)
    say("cards", await tab.locator(".card").count())
  },

  /** While an unfinished upload is busy, HEAD is 423. */
  async busy(tab, say, browser) {
    await slowDown(tab, browser)
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.2)
    let isBusy = true
    await tab.route("**/v1/uploads/*", (route) => {
      if (route.request().method() !== "HEAD" || !isBusy) return route.continue()
      isBusy = false
      return route.fulfill({ status: 423, headers: { "Retry-After": "5" } })
    })
    await tab.reload()
    await state(tab, "unfinished")
    await tab.waitForFunction(() => /^[1-9]/.test(document.querySelector(".numbers").textContent))
    say("busy", isBusy)
    say("errors", await errors(tab))
    await tab.setInputFiles(".choose input", files[0])
    await state(tab, "ready", { timeout: 30_000 })
  },

  /** No network for a while. What is under way, Chromium lets go on; the proxy cuts that. */
  async offline(tab, say, browser) {
    const offsets = patches(tab)
    await tab.clock.install()
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.1)
    await browser.setOffline(true)
    await state(tab, "retrying")
    say("state", await tab.locator(".state").textContent())
    await look(tab, "retrying")
    // With no time going by on the page, what goes on does not go on because of a timer.
    await tab.clock.pauseAt(Date.now() + 500)
    const asked = tab.waitForRequest((request) => request.method() === "HEAD")
    await browser.setOffline(false)
    await asked
    await tab.clock.resume()
    await state(tab, "ready", { timeout: 30_000 })
    say("offsets", offsets)
  },

  /** A connection that is cut needs nobody to press anything, with or without tus-js-client. */
  async cut(tab, say) {
    const offsets = patches(tab)
    if (process.env.WITHOUT_NPM) await tab.route("**/tus.min.js", (route) => route.fulfill({ status: 404 }))
    await signIn(tab)
    say("client", await tab.locator("#client").isVisible())
    await look(tab, "client")
    await tab.setInputFiles("#files", files[0])
    await state(tab, "ready", { timeout: 30_000 })
    say("offsets", offsets)
  },

  /** Not audio or video. */
  async refused(tab, say) {
    const requests = []
    tab.on("request", (request) => request.url().includes("/v1/uploads/") && requests.push(request.method()))
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await state(tab, "failed")
    await tab.waitForFunction(() => document.querySelector("[data-do=remove]").textContent === "Delete")
    say("errors", await errors(tab))
    await look(tab, "refused")
    await tab.reload()
    await state(tab, "failed")
    await tab.waitForSelector(".card .error:not(:empty)")
    say("later", await errors(tab))
    say("requests", requests)
  },

  /** A folder that is dropped, with what is no media among the files, and one that goes away. */
  async folder(tab, say, browser) {
    await slowDown(tab, browser)
    tab.on("dialog", (dialog) => dialog.accept())
    const sizes = []
    tab.on("request", (request) => {
      if (request.method() === "POST" && request.url().endsWith("/assets")) sizes.push(request.postDataJSON().size_bytes)
    })
    await signIn(tab)
    await drop(tab, browser, files[0])
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=failed]").length === 2)
    await button(tab, "Pause all").click()
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=paused]").length === 3)
    await button(tab, "Resume all").waitFor()
    say("summary", await tab.locator("#summary").textContent())
    say("titles", await titles(tab, "#uploads"))
    say("names", await tab.locator(".card button:visible").evaluateAll((all) => all.map((one) => one.ariaLabel)))
    await look(tab, "folder")
    await lookOnPhone(tab, "folder")
    for (const one of files.slice(1)) rmSync(one) // while it waits
    await button(tab, "Resume all").click()
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=failed]").length === 3)
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=ready]").length === 2, null, { timeout: 30_000 })
    say("errors", await tab.locator("#uploads .error").allTextContents())
    say("ready", await titles(tab, "#assets"))
    say("sizes", sizes)
    await tab.locator("#summary", { hasText: "2 uploaded · 3 failed" }).waitFor()
    await look(tab, "folder-done")
    await drop(tab, browser, `${files[0]}/1 notes.txt`) // another go
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=failed]").length === 4)
    await button(tab, "Try again: 9 gone.mp4").click()
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=failed]").length === 4)
    await button(tab, "Remove from list: 2 empty.mp4").click()
    say("focus", await focused(tab))
  },

  /** A file that is dropped; its upload is cancelled. Another tab sees it for what it is. */
  async tabs(tab, say, browser) {
    await slowDown(tab, browser, 300_000)
    await signIn(tab)
    await drop(tab, browser, files[0])
    await moreThan(tab, 0)
    const other = await browser.newPage()
    await signIn(other)
    await state(other, "elsewhere")
    const atFirst = await other.locator(".card progress").evaluate((one) => one.value)
    await other.waitForFunction((before) => document.querySelector(".card progress").value > before, atFirst)
    say("other", await other.locator(".state").textContent())
    say("offered", await other.locator(".card button:visible, .card .choose:visible").count())
    await button(tab, "Pause: clip.mp4").click()
    await other.waitForFunction(() => /Paused/.test(document.querySelector(".state").textContent))
    await look(other, "another-tab")
    await tab.close({ runBeforeUnload: true })
    await state(other, "unfinished", { timeout: 10_000 })
    say("left", await other.locator(".state").textContent())
    await slowDown(other, browser, 300_000)
    await drop(other, browser, files[0])
    await state(other, "uploading")
    other.on("dialog", (dialog) => dialog.accept())
    await button(other, "Pause: clip.mp4").click()
    await button(other, "Cancel upload: clip.mp4").click()
    await other.waitForSelector(".card", { state: "detached" })
    say("focus", await focused(other))
    say("status", await other.locator("#status").textContent())
  },

  /** Keys that are none, that a link brings, that are kept, and that nobody can be asked about. */
  async keys(tab, say, browser) {
    const kept = () => tab.evaluate(() => sessionStorage.length + localStorage.length)
    const enter = async (given, remember = false) => {
      await tab.fill("#key", given)
      await tab.setChecked("#remember", remember)
      await button(tab, "Continue").click()
    }
    const isSignedIn = async () => {
      const other = await browser.newPage()
      await other.goto(url)
      await other.waitForSelector("#signed-in:not([hidden]), #sign-in:not([hidden])")
      const isSignedIn = await other.locator("#signed-in").isVisible()
      await other.close() // a page in the background draws once a second
      return isSignedIn
    }
    const signedIn = () => tab.waitForSelector("#signed-in:not([hidden])")
    await tab.goto(url)
    await look(tab, "sign-in")
    await enter("sk_wrong_0123456789abcdef")
    await tab.waitForSelector("#key-error:not(:empty)")
    say("error", await tab.locator("#key-error").textContent())
    say("wrong", await kept())
    await look(tab, "wrong-key")
    await enter(key)
    await signedIn()
    say("forTab", await isSignedIn())
    await button(tab, "Change key").click()
    await enter(key, true)
    await signedIn()
    say("forBrowser", await isSignedIn())
    await tab.route("**/v1/**", (route) => route.abort())
    await tab.reload()
    await tab.waitForSelector("#trouble:not([hidden])")
    say("trouble", await tab.locator("#trouble-reason").textContent())
    await look(tab, "trouble")
    await tab.unroute("**/v1/**")
    await button(tab, "Try again").click()
    await signedIn()
    await button(tab, "Change key").click()
    say("afterwards", await kept())
    await signIn(tab)
    say("link", tab.url())
  },

  /** An account without credits. */
  async poor(tab, say) {
    await signIn(tab)
    let asked = 0
    tab.on("request", (request) => (asked += request.url().endsWith("/v1/assets") ? 1 : 0))
    const buffer = Buffer.alloc(1000)
    const many = [1, 2, 3, 4, 5, 6].map((number) => ({ name: `${number}.mp3`, mimeType: "audio/mpeg", buffer }))
    await tab.setInputFiles("#files", many)
    await tab.waitForFunction(() => document.querySelectorAll("[data-state=paused]").length === 6)
    say("error", await tab.locator("#upload-error").textContent())
    say("asked", asked)
    await look(tab, "poor")
  },

  /** More assets and projects than one answer of the API has, and more files than people look at. */
  async many(tab, say, browser) {
    const pictured = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 9'%3E%3Crect width='16' height='9' fill='teal'/%3E%3C/svg%3E"
    const shown = () => tab.locator("#assets > li").count()
    await tab.route("**/v1/projects?limit=100&offset=*", async (route) => {
      const others = Array.from({ length: 100 }, (_, number) => ({
        id: `00000000-0000-7000-8000-${String(number).padStart(12, "0")}`,
        name: `Other ${number}`,
      }))
      if (route.request().url().endsWith("&offset=0")) return route.fulfill({ json: { items: others } })
      await route.continue({ url: route.request().url().replace("&offset=100", "&offset=0") })
    })
    await signIn(tab)
    await tab.selectOption("#project", { label: "First" })
    await tab.waitForFunction(() => document.querySelectorAll("#assets > li").length === 20)
    say("heading", await tab.locator("#assets-title").textContent())
    say("count", await tab.locator("#count").textContent())
    await button(tab, "Show more").click()
    await tab.waitForFunction(() => document.querySelectorAll("#assets > li").length > 20)
    say("all", await shown())
    const first = await tab.locator("#assets h3").nth(20).evaluate((title) => title === document.activeElement)
    say("focus", first)
    say("more", await tab.locator("#more").isVisible())
    say("projects", await tab.locator("#project option").count())
    say("unfinished", await tab.locator("#uploads .project").allTextContents())
    await tab.route("**/v1/assets?project_id=*", async (route) => {
      const answer = await (await route.fetch()).json()
      const ready = { state: "ready", type: "video", extension: "mp4", poster_url: pictured }
      const items = answer.items.map((asset) => (asset.state === "failed" ? { ...asset, ...ready } : asset))
      await route.fulfill({ json: { ...answer, items } })
    })
    await tab.selectOption("#project", { label: "Second" })
    await tab.waitForSelector(".poster:not([hidden])")
    say("second", [await tab.locator("#assets-title").textContent(), await shown()])
    await look(tab, "poster")
    await lookOnPhone(tab, "poster")
    await tab.route("**/v1/assets", () => {}) // no answer
    await drop(tab, browser, files[0])
    await tab.waitForFunction(() => /^0 of 3,000 /.test(document.querySelector("#summary").textContent))
    say("waiting", [await tab.locator("#uploads h3").first().textContent(), await tab.locator("#uploads > li").count()])
    say("hidden", await tab.locator("#more-uploads").textContent())
    await button(tab, "Pause all").click()
    await button(tab, "Resume all").waitFor()
    say("paused", await tab.locator("#uploads > li").count())
    await look(tab, "thousands")
  },
}

await scenario(async (tab, say, browser) => {
  await scenarios[name](tab, say, browser)
  say("barriers", found)
})
