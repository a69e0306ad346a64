#!/usr/bin/env bash
# Runs a command in a network namespace of its own: loopback is up, no route leads anywhere.
# Where the kernel does not allow that, it says so and runs the command as it is; tests then say that they were not offline.
set -euo pipefail
up='import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags = struct.unpack("16sH14x", fcntl.ioctl(s, 0x8913, struct.pack("16sH14x", b"lo", 0)))[1]
fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))'
if [ "$(id -u)" = 0 ]; then wrap=(unshare --net); else wrap=(unshare --map-current-user --net); fi
if "${wrap[@]}" "${PYTHON:-python3}" -c "$up" 2>/dev/null; then
  exec "${wrap[@]}" bash -c '"$0" -c "$1" && shift && exec "$@"' "${PYTHON:-python3}" "$up" "$@"
fi
echo "offline.sh: no network namespace can be made here; running with the network as it is" >&2
exec "$@"
