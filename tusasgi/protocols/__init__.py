"""Protocols as pure functions: heads of requests to values, values to responses."""
