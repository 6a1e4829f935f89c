"""Webhooks: addresses outside that are told what happened in the registry."""
