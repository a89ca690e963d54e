"""What was sent to whom, and when a site went live, from the outbox into the audit log."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import UTC, datetime

from screening.audit_log.chained_log import ChainedLog, Head
from screening.audit_log.observer import exam_name, started_by, utc
from screening.delivery.outbox import Outbox, Parcel, State

DELIVERED, SEEN, SWITCHED = "delivered", "outbox-seen", "mode-switched"


def log_deliveries(log: ChainedLog, outbox: Outbox) -> Head:
    """Log what has arrived or failed, and each switch between shadow and live, since this was last done.

    The last record tells until when this outbox (by the digest of its path) has been seen, so that what a crash left
    out is logged by the next call. Call it after sending. Raises `StoreError` if the outbox cannot be read or the log
    not be written.
    """
    place = hashlib.sha256(str(outbox.path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    last = log.last(SEEN, outbox_sha256=place)
    since = datetime.fromisoformat(str(last.content["until"])) if last else datetime.min.replace(tzinfo=UTC)
    until = datetime.now(UTC)
    by = started_by()
    for switch in outbox.switches():
        if since < _aware(switch.when) <= until:
            log.append(
                SWITCHED,
                {
                    "site": switch.site,
                    "before": switch.before,
                    "after": switch.after,
                    "decided_by": switch.decided_by,
                    "profile_sha256": switch.profile,
                    "when": utc(_aware(switch.when)),
                    "by": switch.user,
                },
            )
    ended: dict[tuple[str, str, State], list[Parcel]] = defaultdict(list)
    for parcel in outbox.parcels():
        moment = parcel.arrived if parcel.state in (State.SENT, State.COMMITTED) else parcel.tried
        if parcel.state is not State.QUEUED and moment is not None and since < _aware(moment) <= until:
            ended[parcel.exam_id, parcel.destination, parcel.state].append(parcel)
    for (exam_id, destination, state), parcels in sorted(ended.items()):
        objects = [{"kind": one.kind, "sop_instance_uid": one.sop_instance_uid} for one in parcels]
        content = {"exam_id": exam_name(exam_id, log), "destination": destination, "state": state.value, "by": by}
        log.append(DELIVERED, {**content, "objects": objects})
    return log.append(SEEN, {"until": until.isoformat(), "outbox_sha256": place, "by": by})


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
