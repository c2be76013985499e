"""The life of an upload, without HTTP."""
