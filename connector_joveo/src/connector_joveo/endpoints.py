"""
The method and path of each operation of Joveo, as a table: the provider's page prints neither.

Every entry but that of ``send_s2s_event`` is inferred from the operation's title and parameters. The setting
``endpoints`` replaces a method or a path.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock import did_you_mean, placeholders


class Endpoint(NamedTuple):
    method: str
    path: str  # below base_url; {names} are filled in, percent-encoded


_CLIENT = "/clients/{client_id}"
_JOB = _CLIENT + "/jobs/{job_reference}"
_CAMPAIGN = _CLIENT + "/campaigns/{campaign_id}"
_JOB_GROUP = _CAMPAIGN + "/jobgroups/{jobgroup_id}"
_FEED = _CLIENT + "/feeds/{feed_id}"
_CONFIGS = _CLIENT + "/publishers/{publisher_id}/configs"
_CONFIG = _CONFIGS + "/{config_id}"
_PUBLISHER = "/publishers/{publisher_family_id}/reports"

# In the order of the provider's page.
ENDPOINTS: Mapping[str, Endpoint] = {
    "token": Endpoint("POST", "/oauth/token"),
    "create_client": Endpoint("POST", "/clients"),
    "clients": Endpoint("GET", "/clients"),
    "update_client": Endpoint("PUT", _CLIENT),
    "client_details": Endpoint("GET", _CLIENT),
    "delete_client": Endpoint("DELETE", _CLIENT),
    "client_status": Endpoint("GET", _CLIENT + "/status"),
    "client_custom_idx_fields": Endpoint("GET", _CLIENT + "/custom-idx-fields"),
    "pause_client": Endpoint("PUT", _CLIENT + "/pause"),
    "enable_client": Endpoint("PUT", _CLIENT + "/enable"),
    "create_job": Endpoint("POST", _CLIENT + "/jobs"),
    "jobs": Endpoint("GET", _CLIENT + "/jobs"),
    "job_details": Endpoint("GET", _JOB),
    "delete_job": Endpoint("DELETE", _JOB),
    "update_job": Endpoint("PUT", _JOB),
    "pause_job": Endpoint("PUT", _JOB + "/pause"),
    "enable_job": Endpoint("PUT", _JOB + "/enable"),
    "jobs_by_id": Endpoint("POST", "/jobs"),
    "create_campaign": Endpoint("POST", _CLIENT + "/campaigns"),
    "campaigns": Endpoint("GET", _CLIENT + "/campaigns"),
    "campaign_details": Endpoint("GET", _CAMPAIGN),
    "delete_campaign": Endpoint("DELETE", _CAMPAIGN),
    "update_campaign": Endpoint("PUT", _CAMPAIGN),
    "pause_campaign": Endpoint("PUT", _CAMPAIGN + "/pause"),
    "enable_campaign": Endpoint("PUT", _CAMPAIGN + "/enable"),
    "create_job_group": Endpoint("POST", _CAMPAIGN + "/jobgroups"),
    "campaign_job_groups": Endpoint("GET", _CAMPAIGN + "/jobgroups"),
    "job_groups": Endpoint("GET", _CLIENT + "/jobgroups"),
    "job_group_details": Endpoint("GET", _JOB_GROUP),
    "delete_job_group": Endpoint("DELETE", _JOB_GROUP),
    "update_job_group": Endpoint("PUT", _JOB_GROUP),
    "pause_job_group": Endpoint("PUT", _JOB_GROUP + "/pause"),
    "enable_job_group": Endpoint("PUT", _JOB_GROUP + "/enable"),
    "create_feed": Endpoint("POST", _CLIENT + "/feeds"),
    "feeds": Endpoint("GET", _CLIENT + "/feeds"),
    "feed_details": Endpoint("GET", _FEED),
    "delete_feed": Endpoint("DELETE", _FEED),
    "update_feed": Endpoint("PUT", _FEED),
    "publisher_posted_jobs": Endpoint("GET", _CLIENT + "/publishers/{publisher_id}/jobs"),
    # Titled as a read, but it takes job references and answers that a create was processed: it is a write.
    "add_posting_jobs": Endpoint("POST", _CLIENT + "/configs/{config_id}/jobs"),
    "create_posting_config": Endpoint("POST", _CONFIGS),
    "publisher_posting_configs": Endpoint("GET", _CONFIGS),
    "update_posting_config": Endpoint("PUT", _CONFIG),
    "posting_config_details": Endpoint("GET", _CONFIG),
    "delete_posting_config": Endpoint("DELETE", _CONFIG),
    "posting_config_jobs": Endpoint("GET", _CONFIG + "/jobs"),
    "posting_config_job_details": Endpoint("GET", _CONFIG + "/jobs/{job_reference}"),
    "posting_configs": Endpoint("GET", _CLIENT + "/configs"),
    "stats": Endpoint("POST", "/stats/reports"),
    "stats_poll": Endpoint("GET", "/stats/reports/{report_id}/status"),
    "stats_live": Endpoint("POST", "/stats/stream"),
    "client_metadata": Endpoint("GET", "/meta"),
    "apply_job_rules": Endpoint("POST", "/rules/jobs"),
    "stats_report": Endpoint("POST", "/reports/stats"),
    "ip_report": Endpoint("POST", "/reports/ip"),
    "ip_report_poll": Endpoint("GET", "/reports/{report_id}"),
    "update_candidate_status": Endpoint("POST", "/funnel/candidates"),
    "send_s2s_event": Endpoint("POST", "/s2s/events"),  # the one path that the provider states
    "publisher_report": Endpoint("POST", _PUBLISHER),
    "publisher_report_poll": Endpoint("GET", _PUBLISHER + "/{report_id}"),
}

# The header that carries the client in these operations; in the others the path does.
CLIENT_HEADER: Mapping[str, str] = {
    **dict.fromkeys(("stats", "stats_poll", "client_metadata", "ip_report", "ip_report_poll"), "x-client-id"),
    **dict.fromkeys(("apply_job_rules", "update_candidate_status"), "x-client-id"),
    "send_s2s_event": "client_id",
}

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def override(operation: str, configured: Any) -> Endpoint:
    """
    The endpoint that the configuration gives for an operation: ``{ method = "GET", path = "/v2/clients" }``, either
    of the two, or ``"GET /v2/clients"``. ValueError for anything else.
    """
    if operation not in ENDPOINTS:
        raise ValueError(f"{operation!r} is not an operation of Joveo.{did_you_mean(operation, ENDPOINTS)}")
    default = ENDPOINTS[operation]
    if isinstance(configured, str):
        method, _, path = configured.strip().partition(" ")
        configured = {"method": method, "path": path.strip()}
    if not isinstance(configured, Mapping) or not configured or set(configured) - {"method", "path"}:
        raise ValueError(f'{operation}: expected {{ method = "{default.method}", path = "{default.path}" }}')
    method = str(configured.get("method", default.method)).upper()
    path = str(configured.get("path", default.path))
    if method not in _METHODS:
        raise ValueError(f"{operation}: found the method {method!r}, expected one of {', '.join(_METHODS)}")
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError(f"{operation}: found the path {path!r}, expected one that begins with / and has no ? or #")
    given, needed = set(placeholders(path)), placeholders(default.path)
    if unknown := given - {*needed, "client_id"}:
        known = ", ".join(sorted({*needed, "client_id"}))
        raise ValueError(f"{operation}: the path names {', '.join(sorted(unknown))}, which is not one of {known}")
    if missing := [f"{{{name}}}" for name in needed if name not in given]:
        # Without it, the requests for each client, or each job, would be the same.
        raise ValueError(f"{operation}: the path lacks {' and '.join(missing)}, which names the resource")
    return Endpoint(method, path)


def endpoint(overrides: Mapping[str, Any], operation: str) -> Endpoint:
    return override(operation, overrides[operation]) if operation in overrides else ENDPOINTS[operation]
