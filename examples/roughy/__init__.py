"""A small asset service: REST makes the asset and its upload, TUS carries the bytes.

Start with `app.py`, which puts the parts together, and `README.md`, which names them.
"""
