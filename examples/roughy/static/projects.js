// The projects, and which of them is chosen.

import { call, readAll } from "./api.js"

const CHOSEN = "roughy:project"
const FIRST = "My uploads" // the project that is made with the first file, if there is none

const $ = (id) => document.getElementById(id)
const names = new Map()
let first = null

export const chosenProject = () => $("project").value
export const nameOf = (id) => names.get(id) ?? ""

export async function showProjects() {
  names.clear()
  for (const project of await readAll("projects?")) names.set(project.id, project.name)
  offer(localStorage.getItem(CHOSEN))
}

/** Fill the list; where there is no project, with the one to come. */
function offer(chosen) {
  const projects = names.size ? [...names] : [["", FIRST]]
  $("project").replaceChildren(...projects.map(([id, name]) => new Option(name, id, false, id === chosen)))
}

export function choose(id) {
  localStorage.setItem(CHOSEN, id)
  $("project").value = id
}

export async function createProject(name) {
  const project = await (await call("POST", "projects", { body: { name } })).json()
  const others = [...names]
  names.clear()
  for (const [id, label] of [[project.id, project.name], ...others]) names.set(id, label)
  offer(project.id)
  choose(project.id)
  return project.id
}

/** The project for a file that was chosen when there was none; several files make it once. */
export async function firstProject() {
  if (names.size) return chosenProject()
  first ??= createProject(FIRST).finally(() => (first = null))
  return first
}
