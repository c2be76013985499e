"""tuspy, with the retries that it does not make unless it is told to.

python once.py ENDPOINT FILE
"""

import sys

from tusclient.client import TusClient

endpoint, path = sys.argv[1:]
uploader = TusClient(endpoint).uploader(path, chunk_size=1024 * 1024, retries=8, retry_delay=1)
uploader.upload()
print(uploader.url)
