#!/bin/sh
# Corten in one minute: a daemon of its own, a limited web server, a look at it from all sides, and nothing left behind.
#
#   examples/demo.sh CORTEN      (make demo builds it first)
set -eu
corten=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
[ "$(id -u)" = 0 ] || exec sudo "$0" "$corten"
# In a network namespace of its own: the bridge and the firewall table of this daemon go with it.
[ -n "${CORTEN_DEMO:-}" ] || CORTEN_DEMO=1 exec unshare --net "$0" "$corten"
ip link set lo up

work=$(mktemp -d /tmp/corten-demo.XXXXXX)
daemon=
port=${PORT:-18080}
clean_up() {
    status=$?
    trap - EXIT
    "$corten" rm -f web >/dev/null 2>&1 || true
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
    [ "$status" = 0 ] || { echo '--- the daemon said'; tail -n 40 "$work/log"; } >&2
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ ! -d "$hierarchy/corten-demo" ] || rmdir "$hierarchy/corten-demo" 2>/dev/null || true
    done
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command, then runs it.
show() { printf '$ corten %s\n' "$*"; "$corten" "$@"; }

say 'An image: static busybox and a web server of 60 lines of C'
"$here/image.sh" "$work/image.tar"

say 'A daemon with a socket and directories of its own'
export DOCKER_HOST="unix://$work/sock"
"$corten" daemon -H "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/run" --pidfile "$work/pid" \
    --cgroup-parent /corten-demo >"$work/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
    "$corten" version >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || { echo 'the daemon ended' >&2; exit 1; }
    sleep 0.05
done
show load -i "$work/image.tar"
show images

say 'The web server, published, with limits, as an ordinary user, on a root that it cannot write'
show run -d --name web -p "$port:8000" --memory 32m --cpus 0.5 --pids-limit 16 --read-only --cap-drop ALL demo web 8000

say 'It answers'
for _ in $(seq 100); do curl -sf -o /dev/null "http://127.0.0.1:$port/" && break; sleep 0.05; done
curl -sS "http://127.0.0.1:$port/"
curl -sS "http://127.0.0.1:$port/nothing"

say 'What runs, what it uses, what it printed'
show ps
show top web
show stats --no-stream web
show logs web

say 'A command in a container of its own: how long does that take?'
start=$(date +%s%N)
show run --rm --network none demo echo 'hello from a new container'
echo "$((($(date +%s%N) - start) / 1000)) microseconds, from the shell and back"

say 'The daemon is killed with -9: the web server does not notice'
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
curl -sS "http://127.0.0.1:$port/"
"$corten" daemon -H "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/run" --pidfile "$work/pid" \
    --cgroup-parent /corten-demo >>"$work/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do "$corten" version >/dev/null 2>&1 && break; sleep 0.05; done
show ps

say 'It is stopped and removed; nothing is left'
show stop web
show rm web
show ps -a
