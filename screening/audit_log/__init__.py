"""The audit log: what was read, what the model said of it, when and by whose command, in a chain that shows tampering.

One JSON object a line, each with the digest of the line before it. Nothing in it names a woman.
"""

from screening.audit_log.chained_log import ChainedLog, Head
from screening.audit_log.observer import AuditLog, audit_folder, open_log
from screening.audit_log.verify import Verification, verify

__all__ = ["AuditLog", "ChainedLog", "Head", "Verification", "audit_folder", "open_log", "verify"]
