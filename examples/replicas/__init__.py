"""An example deployment of Roughy: three of it behind a balancer, S3 and PostgreSQL behind them.

Start with `__main__.py`; `docs/replicas.md` explains it.
"""
