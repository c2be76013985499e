"""The upload in Python as Roughy's guide prints it, in the form that tuspy 1.1.0 has.

The guide calls `Uploader(FILE_PATH, url=…, headers=…)`: there is no argument `headers`, they belong
to a client. It also lacks `import os`, and retries, which are off by default.
"""

import os

import httpx
from tusclient.client import TusClient

ROUGHY_API_KEY = "sk_…"
PROJECT_ID = "019de7f5-7e21-7402-92a8-1c0e1fa84411"
FILE_PATH = "/path/to/video.mp4"
FILE_SIZE = os.path.getsize(FILE_PATH)
HEADERS = {"Authorization": f"Bearer {ROUGHY_API_KEY}"}

# Step 1 — create the asset.
resp = httpx.post(
    "https://api.roughy.ai/v1/assets",
    headers=HEADERS,
    json={
        "project_id": PROJECT_ID,
        "size_bytes": FILE_SIZE,
    },
)
resp.raise_for_status()
asset_id = resp.json()["id"]
upload_url = resp.headers["Location"]  # the TUS transfer URL

# Step 2 — stream the file to the pre-allocated TUS URL.
client = TusClient("http://unused.invalid/", headers=HEADERS)
uploader = client.uploader(
    FILE_PATH,
    url=upload_url,
    chunk_size=50 * 1024 * 1024,  # 50 MiB
    retries=5,
    retry_delay=3,
)
uploader.upload()  # blocks; resumes automatically on retry
print(f"done — asset_id={asset_id}")
