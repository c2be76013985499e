// The page of Roughy: who uses it, and what people do on it.

import { chosenProject, choose, createProject, showProjects } from "./projects.js"
import { clear, connect, queue, showAll, showMore, showMoreUploads, showProject, uploadAll } from "./lists.js"
import { keyInShort, read, useKey } from "./api.js"
import { hasTusJs } from "./transfer.js"
import { inWords } from "./problems.js"
import { onFiles } from "./tusasgi/choosing.js"

const KEY = "roughy:key"
const STEPS = ["sign-in", "trouble", "signed-in"] // one of them is shown

const $ = (id) => document.getElementById(id)

function showStep(id) {
  for (const step of STEPS) $(step).hidden = step !== id
}

/** Do something; show what went wrong where files are chosen. */
async function attempt(action) {
  $("upload-error").textContent = ""
  try {
    await action()
  } catch (error) {
    if (error.status === 401) signOut(inWords(error))
    else $("upload-error").textContent = inWords(error)
  }
}

// ---------------------------------------------------------------- the key

async function showAccount() {
  const { balance } = await read("credits/balance")
  $("account").textContent = `Key ${keyInShort()} · ${balance} credits`
}

/** Show all that belongs to a key, or throw the `Refusal`. */
async function open(key) {
  useKey(key)
  await showAccount()
  await showProjects()
  await showAll()
  showStep("signed-in")
}

/** Keep the key and go on; a key that Roughy does not know is not kept. */
async function signIn(key, storage) {
  $("key-error").textContent = ""
  try {
    await open(key)
  } catch (error) {
    $("key-error").textContent = inWords(error)
    return $("key").focus()
  }
  storage.setItem(KEY, key)
  $("key").value = ""
  $("upload-title").focus()
}

/** Go on with a key that was kept; only if Roughy does not know it, it is forgotten. */
async function resume(key) {
  try {
    await open(key)
  } catch (error) {
    if (error.status === 401) return signOut(inWords(error))
    $("trouble-reason").textContent = inWords(error)
    showStep("trouble")
  }
}

function signOut(message = "") {
  clear()
  sessionStorage.removeItem(KEY)
  localStorage.removeItem(KEY)
  showStep("sign-in")
  $("key-error").textContent = message
  $("key").focus()
}

const mayStop = () => !queue.isAtRisk || confirm("Files are on their way. Stop sending them?")

/** A link may bring the key behind its #, which browsers do not send; it is taken out of sight. */
function keyFromLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key")
  if (given) history.replaceState(null, "", location.pathname + location.search)
  return given
}

function begin() {
  const linked = keyFromLink()
  if (linked) sessionStorage.setItem(KEY, linked)
  const kept = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY)
  if (kept) resume(kept)
  else signOut()
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault()
  signIn($("key").value.trim(), $("remember").checked ? localStorage : sessionStorage)
})
$("sign-out").addEventListener("click", () => mayStop() && signOut())
$("other-key").addEventListener("click", () => signOut())
$("try-again").addEventListener("click", begin)
window.addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#key=") || !mayStop()) return
  clear()
  begin()
})

// ---------------------------------------------------------------- projects

function openNewProject(open) {
  $("new-project").hidden = !open
  $("add-project").setAttribute("aria-expanded", open)
}

$("add-project").addEventListener("click", () => {
  openNewProject($("new-project").hidden)
  if (!$("new-project").hidden) $("project-name").focus()
})
$("new-project").addEventListener("submit", (event) => {
  event.preventDefault()
  attempt(async () => {
    await createProject($("project-name").value)
    $("project-name").value = ""
    openNewProject(false)
    $("project").focus()
    await showProject()
  })
})
$("project").addEventListener("change", () => {
  choose(chosenProject())
  attempt(showProject)
})

// ---------------------------------------------------------------- files

let unreadable = []

onFiles({
  inputs: [$("files"), $("folder")],
  zone: $("drop"),
  take(files) {
    unreadable = []
    attempt(() => uploadAll(files))
  },
  cannotRead(name) {
    unreadable.push(name)
    $("upload-error").textContent = `Not to be read: ${unreadable.join(", ")}.`
  },
})
$("choose-folder").addEventListener("click", () => $("folder").click())
$("choose-folder").hidden = !("webkitdirectory" in $("folder"))
$("client").hidden = hasTusJs
$("all").addEventListener("click", () => attempt(() => (queue.isRunning ? queue.pauseAll() : queue.resumeAll())))
$("more").addEventListener("click", () => attempt(showMore))
$("more-uploads").addEventListener("click", showMoreUploads)

window.addEventListener("online", () => {
  queue.hurry()
  if (!$("trouble").hidden) begin()
})
window.addEventListener("beforeunload", (event) => queue.isAtRisk && event.preventDefault())

// Without an answer it stays what it was; the next thing that people do tells why.
connect({ showAccount: () => showAccount().catch(inWords), signOut })
begin()
