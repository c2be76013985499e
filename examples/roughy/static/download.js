// Saving a file under a name that people know.

/** Have the browser download it. */
export function download(url, name) {
  const link = document.createElement("a")
  link.href = named(url, name)
  // From another server it might open, and this page would be left.
  if (link.origin !== location.origin) link.target = "_blank"
  link.download = ""
  link.click()
}

/** Only Roughy takes a name for what is downloaded; other servers have signed all of the address. */
function named(url, name) {
  const address = new URL(url)
  if (address.pathname.startsWith(new URL("downloads/", document.baseURI).pathname)) {
    address.searchParams.set("filename", name)
  }
  return address.href
}

/** The name with the extension that the bytes ask for, in place of one that says otherwise. */
export function withExtension(name, extension) {
  if (!extension || name.toLowerCase().endsWith(`.${extension}`)) return name
  return `${name.replace(/\.(?=.*[a-z])[a-z0-9]{2,4}$/i, "")}.${extension}`
}
