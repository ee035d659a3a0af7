# A guest's script: every limit on a host with cgroup v2 alone, and nothing left behind. Expects `corten` in /work.
check() { # WHAT WANTED GOT
  if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: wanted '$2', got '$3'"; failed=1; fi
}
becomes() { # WANTED COMMAND...: asks until it is so, or for half a minute; what it was in the end
  wanted=$1; shift
  for i in $(seq 100); do got=$("$@"); [ "$got" = "$wanted" ] && break; sleep 0.3; done
  echo "$got"
}
status() { corten inspect --format '{{.State.Status}}' "$1"; }
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
refused() { corten logs forks 2>&1 | grep -o "can't fork" | head -1; }
check 'a pids limit holds' "can't fork" "$(becomes "can't fork" refused)"
corten rm -f forks >/dev/null

# Limits that change while a container runs, and those of block devices.
corten run -d --name box --network none -m 64m --memory-swap 96m --pids-limit 50 box sleep 1000 >/dev/null
group=/sys/fs/cgroup/docker/$(corten inspect --format "{{.Id}}" box)
check 'update answers' box "$(corten update -m 48m --memory-swap 112m --cpus 0.3 --cpuset-cpus 0 --cpu-shares 1536 --pids-limit 60 box)"
check 'updated memory' 50331648 "$(cat $group/memory.max)"
check 'updated swap' 67108864 "$(cat $group/memory.swap.max)"
check 'updated cpus' '30000 100000' "$(cat $group/cpu.max)"
check 'updated shares' 138 "$(cat $group/cpu.weight)"
check 'updated cpuset' 0 "$(cat $group/cpuset.cpus)"
check 'updated pids' 60 "$(cat $group/pids.max)"
check 'pids without a limit' max "$(corten update --pids-limit -1 box >/dev/null; cat $group/pids.max)"
check 'memory alone, beyond memory and swap' 1 "$(corten update -m 200m box 2>&1 | grep -c 'smaller than already set memoryswap')"
check 'nothing of it was done' 50331648 "$(cat $group/memory.max)"
check 'the record' '50331648 117440512' "$(corten inspect --format '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' box)"
corten rm -f box >/dev/null
if [ -e /sys/fs/cgroup/docker/io.bfq.weight ] || [ -e /sys/fs/cgroup/docker/io.weight ]; then
  corten run -d --name box --network none --blkio-weight 300 box sleep 1000 >/dev/null
  check 'a weight of block io' 1 "$(cat /sys/fs/cgroup/docker/*/io.bfq.weight /sys/fs/cgroup/docker/*/io.weight 2>/dev/null | grep -c 'default \(300\|2930\)')"
  corten rm -f box >/dev/null
fi
check 'no swappiness on v2' 1 "$(corten run --rm --network none --memory-swappiness 5 box true 2>&1 | grep -c 'memory swappiness capabilities')"
check 'no real time on v2' 1 "$(corten run --rm --network none --cpu-rt-runtime 1000 box true 2>&1 | grep -c 'does not support CPU real-time scheduler')"

# What is used.
corten run -d --name busy --network none --cpus 0.5 box sh -c 'while :; do :; done' >/dev/null
sleep 1
share=$(corten stats --no-stream --format '{{.CPUPerc}}' busy)
check 'processor time' yes "$([ "${share%.*}" -ge 20 ] && [ "${share%.*}" -le 70 ] && echo yes || echo "$share")"
corten rm -f busy >/dev/null
corten run -d --name box --network none -m 64m box sleep 1000 >/dev/null
check 'what stats shows' 'box 64MiB 1' "$(corten stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' box | sed 's/ [^ ]* \/ / /')"
corten rm -f box >/dev/null

# A device that a driver describes.
mkdir -p /etc/cdi
cat >/etc/cdi/vendor.yaml <<'END'
cdiVersion: 0.6.0
kind: vendor.com/card
devices:
- name: latency
  containerEdits:
    env: [CARD=latency]
    deviceNodes: [{path: /dev/card, hostPath: /dev/cpu_dma_latency}]
    hooks: [{hookName: createContainer, path: /bin/sh, args: [sh, -c, 'cat >/tmp/hook-state']}]
END
check 'a CDI device' 'latency 4' "$(run --device vendor.com/card=latency box sh -c 'echo $CARD $(head -c 4 /dev/card | wc -c)')"
check 'its hook' 1 "$(grep -c '"status":"creating"' /tmp/hook-state)"
rm -r /etc/cdi
check 'no such device' 1 "$(run --device vendor.com/card=latency box true | grep -c 'unresolvable CDI devices')"
check 'no GPU' 1 "$(run --gpus all box true | grep -c 'could not select device driver "" with capabilities: \[\[gpu\]\]')"
for left in $(corten ps -aq); do corten rm -f $left >/dev/null; done

corten run -d --name box --network none box sleep 1000 >/dev/null
corten pause box >/dev/null
check paused paused "$(corten inspect --format '{{.State.Status}}' box)"
check frozen 1 "$(cat /sys/fs/cgroup/docker/*/cgroup.freeze)"
corten unpause box >/dev/null
pid=$(cat /run/c.pid)
kill -9 "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
corten daemon -H unix:///run/c.sock --data-root /var/lib/corten --exec-root /run/corten --pidfile /run/c.pid >>/tmp/log 2>&1 &
for i in $(seq 100); do corten ps >/dev/null 2>&1 && break; sleep 0.1; done
check 'found again' running "$(corten inspect --format '{{.State.Status}}' box)"
kill -9 "$(pidof corten-shim)" 2>/dev/null || for stat in /proc/[0-9]*/comm; do
  [ "$(cat "$stat")" = corten-shim ] && pid=${stat#/proc/} && kill -9 "${pid%/comm}"
done
check 'dead with its shim' exited "$(becomes exited status box)"
corten rm box >/dev/null
check 'no cgroup is left' '' "$(becomes '' find /sys/fs/cgroup/docker -mindepth 1 -type d)"
check 'no mount is left' 0 "$(grep -c corten /proc/mounts)"
[ $failed = 0 ] || tail -20 /tmp/log
exit $failed
