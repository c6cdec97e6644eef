"""Text of ss, netstat, lsof, /proc/net/tcp -> snapshots."""
