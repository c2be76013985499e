"""The app: from ASGI to the engine and back."""
