"""The lifecycle of an upload, without HTTP."""
