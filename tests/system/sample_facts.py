"""An agent's snapshot as view.py makes it, small, with names that need escaping."""

ENTRY = {
    "read": 10, "filtered": {'dead"band\\': 2}, "guarded": 1, "rejected": {"line\n": 1}, "accepted": 6, "delivered": 4,
    "pending": 2, "evicted": {}, "dead_lettered": {}, "quarantined": {},
    "models": {"sensor-anomaly@1.0.0#96dbe81b": {"gave": 7, "failed": 1, "serves": 2, "promoted": 1}},
}  # fmt: skip
FACTS = {
    "gateway": "gw-1", "site": "lab", "version": "1.2.3", "uptime_s": 12.5, "stuck": "", "clock": "synced",
    "config": {"safe_mode": ""}, "policy": {"name": "base", "hash": "ab"}, "balanced": True, "troubles": [],
    "streams": {"pump": ENTRY},
    "spool": {"file_bytes": 5, "max_bytes": 10, "pending_batches": 1, "state": "ok", "detail": "",
              "full_in_s": 90},
    "process": {"rss_bytes": 4096, "cpu_s": 1.5},
    "link": {"state": "up", "delivered_batches": 3},
    "pipelines": {"pump": {"restarts": 1, "source_restarts": 2, "queue_bytes": 3, "idle_s": 0.25, "reading": True,
                           "trouble": ""}},
}  # fmt: skip
