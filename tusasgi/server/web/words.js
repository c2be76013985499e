// Sizes, times, rates and sentences, as people read them.

const NUMBER = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 })

export function bytes(count) {
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, count)) / 3))
  return `${NUMBER.format(count / 1000 ** power)} ${["B", "kB", "MB", "GB", "TB"][power]}`
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`
}

export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`

/** Bytes a second over the last seconds. */
export class Rate {
  constructor() {
    this.samples = []
  }

  add(count) {
    const time = performance.now()
    if (count < this.samples.at(-1)?.count) this.samples = []
    this.samples = [...this.samples.filter((one) => time - one.time < 5000), { time, count }]
  }

  get value() {
    const [first, last] = [this.samples[0], this.samples.at(-1)]
    return this.samples.length > 1 && last.time > first.time ? (1000 * (last.count - first.count)) / (last.time - first.time) : 0
  }
}
