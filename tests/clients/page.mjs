// What people do on the page; each scenario is called by its name: node page.mjs NAME URL KEY FILE…

import { scenario } from "./browser.mjs"

const [name, url, key, ...files] = process.argv.slice(2)

const button = (tab, text) => tab.getByRole("button", { name: text, exact: true })
const phase = (tab, value, options) => tab.waitForSelector(`[data-phase=${value}]`, options)
const numbers = (tab) => tab.locator(".numbers").first().textContent()
const errors = (tab) => tab.locator("#assets .error").allTextContents()
const shot = (tab, what) =>
  process.env.SHOTS && tab.screenshot({ path: `${process.env.SHOTS}/${what}.png`, fullPage: true })

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
  await tab.waitForFunction((share) => document.querySelector("progress")?.value > share, share)
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
async function slowDown(tab, browser) {
  const devtools = await browser.newCDPSession(tab)
  await devtools.send("Network.enable")
  await devtools.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 0,
    downloadThroughput: -1,
    uploadThroughput: 2_500_000,
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
    await tab.waitForFunction(() => !document.querySelector("#new-project").hidden) // there is none yet
    await tab.locator("#sign-out").focus()
    const press = async (...keys) => {
      for (const one of keys) await tab.keyboard.press(one)
      return tab.evaluate(() => document.activeElement.id)
    }
    const reached = [await press("Tab"), await press("Tab")]
    await tab.keyboard.type("By keyboard")
    await tab.keyboard.press("Enter")
    await tab.waitForFunction(() => document.activeElement.id === "project")
    reached.push(await press("Tab"), await press("Tab"))
    say("reached", reached)
    say("outline", await tab.evaluate(() => getComputedStyle(document.querySelector("#drop")).outlineStyle))
    await tab.keyboard.press("Enter") // opens the file dialog
    await phase(tab, "ready")
    say("project", await tab.locator("#project option:checked").textContent())
    say("link", tab.url())
  },

  /** Pause, go on, reload, go on, see it ready, play it. */
  async reload(tab, say, browser) {
    await slowDown(tab, browser)
    const offsets = patches(tab)
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.1)
    await tab.waitForFunction(() => / left$/.test(document.querySelector(".numbers").textContent))
    say("numbers", await numbers(tab))
    await shot(tab, "uploading")
    await button(tab, "Pause").click()
    await phase(tab, "paused")
    say("focus", await tab.evaluate(() => document.activeElement.textContent))
    await shot(tab, "paused")
    await tab.waitForTimeout(500) // what is on its way arrives, and nothing more
    const paused = await offset(tab)
    await tab.waitForTimeout(300)
    say("stands", paused > 0 && (await offset(tab)) === paused)
    await button(tab, "Resume").click()
    await moreThan(tab, 0.4)
    await tab.reload()
    await phase(tab, "unfinished")
    await tab.waitForFunction(() => /^[1-9]/.test(document.querySelector(".numbers").textContent))
    say("title", await tab.locator("h3").textContent())
    await shot(tab, "unfinished")
    await tab.setViewportSize({ width: 390, height: 844 })
    await shot(tab, "unfinished-phone")
    await tab.setInputFiles(".choose input", files[1])
    await tab.waitForSelector("#assets .error:not(:empty)")
    say("other", await errors(tab))
    await tab.setInputFiles(".choose input", files[0])
    await phase(tab, "ready", { timeout: 30_000 })
    const video = await tab.waitForSelector("video")
    await tab.waitForFunction(() => document.querySelector("video").readyState >= 2)
    say("duration", await video.evaluate((video) => video.duration))
    await video.evaluate((video) => ((video.muted = true), video.play()))
    await tab.waitForFunction(() => document.querySelector("video").currentTime > 0.2)
    await shot(tab, "ready-phone")
    say("offsets", offsets)
    say("status", await tab.locator("#status").textContent())
    await tab.setViewportSize({ width: 360, height: 740 })
    say("width", await tab.evaluate(() => document.documentElement.scrollWidth))
    await tab.reload() // what is ready can be played later, too
    await button(tab, "Play").click()
    await tab.waitForFunction(() => document.querySelector("video")?.readyState >= 2)
  },

  /** Choosing the file again where new ones are chosen finds the unfinished upload. */
  async again(tab, say, browser) {
    await slowDown(tab, browser)
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.2)
    await tab.reload()
    await phase(tab, "unfinished")
    const offsets = patches(tab)
    await tab.setInputFiles("#files", files[0])
    await phase(tab, "ready", { timeout: 30_000 })
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
    await phase(tab, "unfinished")
    await tab.waitForFunction(() => /^[1-9]/.test(document.querySelector(".numbers").textContent))
    say("busy", isBusy)
    say("errors", await errors(tab))
    await tab.setInputFiles(".choose input", files[0])
    await phase(tab, "ready", { timeout: 30_000 })
  },

  /** No network for a while. What is under way, Chromium lets go on; the proxy cuts that. */
  async offline(tab, say, browser) {
    const offsets = patches(tab)
    await tab.clock.install()
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await moreThan(tab, 0.1)
    await browser.setOffline(true)
    await phase(tab, "retrying")
    say("state", await tab.locator(".state").textContent())
    await shot(tab, "retrying")
    // With no time going by on the page, what goes on does not go on because of a timer.
    await tab.clock.pauseAt(Date.now() + 500)
    const asked = tab.waitForRequest((request) => request.method() === "HEAD")
    await browser.setOffline(false)
    await asked
    await tab.clock.resume()
    await phase(tab, "ready", { timeout: 30_000 })
    say("offsets", offsets)
  },

  /** Somebody who comes by a link with a key in it. */
  async link(tab, say) {
    await signIn(tab)
    say("link", tab.url())
  },

  /** A connection that is cut needs nobody to press anything. */
  async cut(tab, say) {
    const offsets = patches(tab)
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await phase(tab, "ready", { timeout: 30_000 })
    say("offsets", offsets)
  },

  /** Not audio or video. */
  async refused(tab, say) {
    const requests = []
    tab.on("request", (request) => request.url().includes("/v1/uploads/") && requests.push(request.method()))
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await phase(tab, "failed")
    say("errors", await errors(tab))
    await shot(tab, "refused")
    await tab.reload()
    await phase(tab, "failed")
    await tab.waitForSelector("#assets .error:not(:empty)")
    say("later", await errors(tab))
    say("requests", requests)
  },

  /** A file that is dropped; its upload is cancelled. */
  async cancel(tab, say, browser) {
    await slowDown(tab, browser)
    tab.on("dialog", (dialog) => dialog.accept())
    await signIn(tab)
    await tab.evaluate(() => {
      document.body.append(Object.assign(document.createElement("input"), { type: "file", id: "from" }))
    })
    await tab.setInputFiles("#from", files[0])
    await tab.evaluate(() => {
      const data = new DataTransfer()
      data.items.add(document.querySelector("#from").files[0])
      const drop = document.querySelector("#drop")
      drop.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }))
      drop.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }))
    })
    await phase(tab, "uploading")
    say("title", await tab.locator("h3").textContent())
    await button(tab, "Pause").click()
    await button(tab, "Cancel upload").click()
    await tab.waitForSelector(".card", { state: "detached" })
    say("focus", await tab.evaluate(() => document.activeElement.id))
    say("status", await tab.locator("#status").textContent())
  },

  /** A key that is none. */
  async wrongKey(tab, say) {
    await tab.goto(url)
    await tab.fill("#key", "sk_wrong_0123456789abcdef")
    await button(tab, "Continue").click()
    await tab.waitForSelector("#key-error:not(:empty)")
    say("error", await tab.locator("#key-error").textContent())
    say("kept", await tab.evaluate(() => sessionStorage.length + localStorage.length))
    await shot(tab, "wrong-key")
  },

  /** An account without credits. */
  async poor(tab, say) {
    await signIn(tab)
    await tab.setInputFiles("#files", files[0])
    await tab.waitForSelector("#upload-error:not(:empty)")
    say("error", await tab.locator("#upload-error").textContent())
    await shot(tab, "poor")
  },

  /** The key is remembered for the tab, or for longer if that is wanted. */
  async remember(tab, say, browser) {
    const isSignedIn = async () => {
      const other = await browser.newPage()
      await other.goto(url)
      await other.waitForSelector("#signed-in:not([hidden]), #sign-in:not([hidden])")
      const isSignedIn = await other.locator("#signed-in").isVisible()
      await other.close() // a page in the background draws once a second
      return isSignedIn
    }
    const enter = async (remember) => {
      await tab.goto(url)
      await tab.fill("#key", key)
      await tab.setChecked("#remember", remember)
      await button(tab, "Continue").click()
      await tab.waitForSelector("#signed-in:not([hidden])")
    }
    await enter(false)
    say("forTab", await isSignedIn())
    await button(tab, "Change key").click()
    await enter(true)
    say("forBrowser", await isSignedIn())
    await button(tab, "Change key").click()
    say("afterwards", await tab.evaluate(() => sessionStorage.length + localStorage.length))
  },
}

await scenario(scenarios[name])
