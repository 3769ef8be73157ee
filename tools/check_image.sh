#!/usr/bin/env bash
# Start an image by buildah as its own user, with a read-only root file system and no capability; ask all four services;
# print the size. Needs root: check_image.sh IMAGE        PYTHON=a Python that has miclip
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
python=${PYTHON:-python3}
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
volume=$(mktemp -d)
log=$volume.log
container=$(buildah from --pull-never --ulimit "nofile=$(ulimit -Hn)" "$image")  # HAProxy opens 10268
buildah config --volume - "$container"  # the one that buildah makes would hide ours
user=$(buildah inspect --type image --format '{{.Docker.Config.User}}' "$image")

clean_up() {
    [ ! -s "$volume/pid" ] || kill "$(cat "$volume/pid")" 2>/dev/null || true
    wait
    buildah rm "$container" >/dev/null
    rm -rf "$volume" "$log"
}
trap clean_up EXIT

fail() { echo "$image: $1" >&2; tail -n 20 "$log" "$volume"/state/logs/server.log >&2; exit 1; }

inside() {  # with the volume and a /tmp of its own, and nothing else to write to
    buildah run --volume "$volume:/var/lib/miclip" --mount type=tmpfs,dst=/tmp \
        --env MICLIP_GRPC_PORT=0 --env MICLIP_HTTP_PORT=0 --env MICLIP_METRICS_PORT=0 "$@"
}

serve() {  # what `docker run --read-only --cap-drop ALL --security-opt no-new-privileges` does
    inside --user 0 --cap-add CAP_SYS_ADMIN --env HOME=/var/lib/miclip "$container" sh -c '
        mount -o remount,bind,ro / && echo $$ >/var/lib/miclip/pid &&
        exec setpriv --reuid "$1" --regid "$1" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs miclip serve
    ' sh "$user" >"$log" 2>&1 &
}

await_ready() {
    for _ in $(seq 240); do
        [ ! -s "$volume/state/server.json" ] || return 0
        kill -0 $! 2>/dev/null || fail "the server ended"
        sleep 1
    done
    fail "the server was not ready after 240 s"
}

[ "$user" -gt 0 ] || fail "the image runs as root"
chown "$user:$user" "$volume"
for program in gcc cc c++ ld make; do
    ! inside "$container" sh -c "command -v $program" >/dev/null 2>&1 || fail "$program is in the image"
done

serve
await_ready
pid=$(cat "$volume/pid")
root=/proc/$pid/root
[ "$(stat -c %u "/proc/$pid")" = "$user" ] || fail "the server does not run as $user"
grep -q '^CapBnd:\s*0*$' "/proc/$pid/status" || fail "the server could gain capabilities"
for folder in / /opt/miclip /usr /etc; do  # even root cannot write where the server is
    refused=$(touch "$root$folder/probe" 2>&1) && fail "$folder can be written to"
    [[ $refused == *"Read-only file system"* ]] || fail "$refused"
done
echo "$image runs as user $user; its root file system is read-only"
"$python" tools/ask_services.py "$volume/state"
inside "$container" miclip status --json >/dev/null || fail "the health check fails"
echo "health check: passes"
buildah images --format '{{.Size}}' "$image" | sed "s/^/size of $image: /"
