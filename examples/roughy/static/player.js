// A player for an asset that is ready, made when somebody wants it.

import { Problem } from "./problems.js"

const RENEWABLE = 60_000 // milliseconds after which a link may have run out

/**
 * Return a player. `link()` is asked for an address, which is good for some minutes only, and
 * again when it has run out; `failed(error)` hears of what keeps it from playing.
 */
export function playerOf(asset, name, { link, failed }) {
  const player = document.createElement(asset.type === "audio" ? "audio" : "video")
  player.controls = true
  player.playsInline = true
  player.setAttribute("aria-label", name)
  let linkedAt = 0
  const load = async (at) => {
    linkedAt = performance.now()
    player.src = await link()
    player.currentTime = at
    await player.play().catch(() => {}) // the error event tells why, if that is not a wish
  }
  player.addEventListener("error", () => {
    const isRunOut = performance.now() - linkedAt > RENEWABLE
    if (isRunOut) load(player.currentTime).catch(failed)
    else failed(new Problem("This browser cannot play it: download it instead."))
  })
  load(0).catch(failed)
  return player
}
