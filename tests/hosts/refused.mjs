// Sends a file with tus-js-client and prints how that ended, as one line of JSON.
// node refused.mjs URL FILE AUTHORIZATION

import { createReadStream, statSync } from "node:fs";
import { Upload } from "tus-js-client";

const [url, file, authorization] = process.argv.slice(2);

function end(outcome) {
  console.log(JSON.stringify(outcome));
  process.exit();
}

new Upload(createReadStream(file), {
  uploadUrl: url,
  uploadSize: statSync(file).size,
  headers: { Authorization: authorization },
  retryDelays: null,
  onSuccess: () => end({ success: true }),
  onError: (error) =>
    end({
      status: error.originalResponse?.getStatus() ?? null,
      body: error.originalResponse?.getBody() ?? null,
      message: String(error.message).slice(0, 300),
    }),
}).start();
