# A guest's script: every limit on a host with cgroup v2 alone, and nothing left behind. Expects `corten` in /work.
check() { # WHAT WANTED GOT
  if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: wanted '$2', got '$3'"; failed=1; fi
}
failed=0
export DOCKER_HOST=unix:///run/c.sock
corten daemon -H unix:///run/c.sock --data-root /var/lib/corten --exec-root /run/corten --pidfile /run/c.pid >/tmp/log 2>&1 &
for i in $(seq 100); do [ -S /run/c.sock ] && break; sleep 0.1; done

mkdir -p /tmp/root/bin /tmp/root/etc
cp /bin/busybox /tmp/root/bin/
/tmp/root/bin/busybox --install -s /tmp/root/bin 2>/dev/null
for name in sh cat head tail sleep mknod wc grep true; do ln -sf busybox /tmp/root/bin/$name; done
echo 'root:x:0:0::/:/bin/sh' >/tmp/root/etc/passwd
tar -C /tmp/root -c . | corten import - box >/dev/null || echo "FAIL import"
run() { corten run --rm --network none "$@" 2>&1; }

# This kernel has neither bridges nor nftables loaded: that is one sentence, and everything else works.
check 'a bridge where there is none' 1 "$(corten run --rm box true 2>&1 | grep -c 'modprobe nf_tables')"
check 'what info says of it' 1 "$(corten info 2>&1 | grep -c 'WARNING: .*nftables')"

check 'cgroup version' 2 "$(corten info --format '{{.CgroupVersion}}')"
check 'a private cgroup namespace' '0::/' "$(run box cat /proc/self/cgroup)"
check memory 67108864 "$(run -m 64m box cat /sys/fs/cgroup/memory.max)"
check 'memory and swap' 33554432 "$(run -m 64m --memory-swap 96m box cat /sys/fs/cgroup/memory.swap.max)"
check cpus '50000 100000' "$(run --cpus 0.5 box cat /sys/fs/cgroup/cpu.max)"
check 'cpu shares' 138 "$(run --cpu-shares 1536 box cat /sys/fs/cgroup/cpu.weight)"
check cpuset 1 "$(run --cpuset-cpus 1 box cat /sys/fs/cgroup/cpuset.cpus.effective)"
check pids 20 "$(run --pids-limit 20 box cat /sys/fs/cgroup/pids.max)"
check 'the cgroup is read-only' 'sh: can'"'"'t create /sys/fs/cgroup/pids.max: Read-only file system' "$(run box sh -c 'echo 1 >/sys/fs/cgroup/pids.max')"

check 'a device that is not given' 'Operation not permitted' \
  "$(run box sh -c 'mknod /x c 1 11 && head -c 1 /x' | grep -o 'Operation not permitted' | head -1)"
check 'a device that is given' 4 "$(run --device /dev/cpu_dma_latency box sh -c 'head -c 4 /dev/cpu_dma_latency | wc -c')"

corten run -d --name hungry --network none -m 16m --memory-swap 16m box sh -c 'head -c 100m /dev/zero | tail' >/dev/null
corten wait hungry >/dev/null
check 'out of memory' true "$(corten inspect --format '{{.State.OOMKilled}}' hungry)"
corten rm hungry >/dev/null

corten run -d --name forks --network none --pids-limit 8 box sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; sleep 1000' >/dev/null
sleep 1
check 'a pids limit holds' "can't fork" "$(corten logs forks 2>&1 | grep -o "can't fork" | head -1)"
corten rm -f forks >/dev/null

corten run -d --name box --network none box sleep 1000 >/dev/null
corten pause box >/dev/null
check paused paused "$(corten inspect --format '{{.State.Status}}' box)"
check frozen 1 "$(cat /sys/fs/cgroup/docker/*/cgroup.freeze)"
corten unpause box >/dev/null
kill -9 "$(cat /run/c.pid)"; sleep 0.5
corten daemon -H unix:///run/c.sock --data-root /var/lib/corten --exec-root /run/corten --pidfile /run/c.pid >>/tmp/log 2>&1 &
for i in $(seq 100); do corten ps >/dev/null 2>&1 && break; sleep 0.1; done
check 'found again' running "$(corten inspect --format '{{.State.Status}}' box)"
kill -9 "$(pidof corten-shim)" 2>/dev/null || for stat in /proc/[0-9]*/comm; do
  [ "$(cat "$stat")" = corten-shim ] && pid=${stat#/proc/} && kill -9 "${pid%/comm}"
done
for i in $(seq 30); do [ "$(corten inspect --format '{{.State.Status}}' box)" = exited ] && break; sleep 0.1; done
check 'dead with its shim' exited "$(corten inspect --format '{{.State.Status}}' box)"
corten rm box >/dev/null
sleep 0.3
check 'no cgroup is left' '' "$(find /sys/fs/cgroup/docker -mindepth 1 -type d)"
check 'no mount is left' 0 "$(grep -c corten /proc/mounts)"
[ $failed = 0 ] || tail -20 /tmp/log
exit $failed
