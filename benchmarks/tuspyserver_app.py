"""tuspyserver in a FastAPI app, run by a Python where both are installed, with uvicorn."""

import os

from fastapi import FastAPI
from tuspyserver import create_tus_router

app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=os.environ["FOLDER"]))
