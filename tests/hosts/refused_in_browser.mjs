// Uploads with tus-js-client in headless Chromium and prints how each ended, as a line of JSON.
// node refused_in_browser.mjs CHROMIUM PAGE SIZE URL AUTHORIZATION [URL AUTHORIZATION]...

import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [executablePath, page, size, ...wanted] = process.argv.slice(2);
const script = fileURLToPath(import.meta.resolve("tus-js-client/dist/tus.min.js"));

function upload([url, authorization, size]) {
  return new Promise((resolve) => {
    const start = performance.now();
    const end = (outcome) => resolve({ ...outcome, seconds: (performance.now() - start) / 1000 });
    new tus.Upload(new Blob([new Uint8Array([0x4e, 0x4f]), new Uint8Array(size - 2)]), {
      uploadUrl: url,
      headers: { Authorization: authorization },
      retryDelays: null,
      onSuccess: () => end({ success: true }),
      onError: (error) =>
        end({
          status: error.originalResponse?.getStatus() ?? null,
          body: error.originalResponse?.getBody() ?? null,
        }),
    }).start();
  });
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const tab = await browser.newPage();
  await tab.goto(page);
  await tab.addScriptTag({ path: script });
  while (wanted.length) {
    const [url, authorization] = wanted.splice(0, 2);
    const outcome = await tab.evaluate(upload, [url, authorization, Number(size)]);
    console.log(JSON.stringify(outcome));
  }
} finally {
  await browser.close();
}
