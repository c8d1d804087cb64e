"""The daemon's figures in Prometheus' text format."""

from collections.abc import Mapping


def prometheus_text(
    *,
    requests: Mapping[str, int],
    jobs: Mapping[str, int],
    inodes: int,
    open_files: int,
    directory_handles: int,
    reaped_files: int,
    reaped_bytes: int,
) -> bytes:
    """Return the exposition text; counters since the mount, gauges as of now."""
    lines = ["# TYPE lffs_requests_total counter"]
    lines += [
        f'lffs_requests_total{{operation="{name}"}} {count}' for name, count in sorted(requests.items())
    ]
    lines.append("# TYPE lffs_jobs gauge")
    lines += [f'lffs_jobs{{status="{status}"}} {count}' for status, count in sorted(jobs.items())]
    for name, kind, value in (
        ("lffs_inodes", "gauge", inodes),
        ("lffs_open_files", "gauge", open_files),
        ("lffs_directory_handles", "gauge", directory_handles),
        ("lffs_reaped_files_total", "counter", reaped_files),
        ("lffs_reaped_bytes_total", "counter", reaped_bytes),
    ):
        lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
    return "\n".join(lines).encode() + b"\n"
