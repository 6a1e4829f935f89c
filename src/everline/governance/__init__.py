"""Governance: the audit log, evidence, policies and approvals; knows subjects by identifier only."""
