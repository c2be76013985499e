"""Hooks of an application somewhere else, which is asked and told over HTTP."""

from tusasgi.webhooks.hooks import WebHooks

__all__ = ["WebHooks"]
