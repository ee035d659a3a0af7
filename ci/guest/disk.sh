# A guest's script: what needs a disk. Sizes of containers and volumes on ext4 with project quotas. Expects `corten` and
# `disk` in /work.
check() { # WHAT WANTED GOT
  if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: wanted '$2', got '$3'"; failed=1; fi
}
failed=0
export DOCKER_HOST=unix:///run/c.sock
mkdir -p /var/lib/corten
mount -o loop,prjquota -t ext4 /work/disk /var/lib/corten || echo "FAIL mount"
start() { # FLAGS...
  corten daemon "$@" -H unix:///run/c.sock --data-root /var/lib/corten --exec-root /run/corten --pidfile /run/c.pid >>/tmp/log 2>&1 &
  for i in $(seq 100); do corten ps >/dev/null 2>&1 && break; sleep 0.1; done
}
stop() { # SIGNAL
  pid=$(cat /run/c.pid)
  kill "$1" "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}
start
mkdir -p /tmp/root/bin /tmp/root/data
cp /bin/busybox /tmp/root/bin/
for name in sh cat head tail dd df awk ls rm true touch stat id sleep wc; do ln -sf busybox /tmp/root/bin/$name; done
tar -C /tmp/root -c . | corten import - box >/dev/null || echo "FAIL import"

fill='dd if=/dev/zero of=/file bs=64k count=64 2>&1 | tail -1 | head -c 60; dd if=/dev/zero of=/file bs=64k count=64 2>&1 | head -1'
full() { corten run --rm --network none "$@" 2>&1 | grep -c 'No space left on device\|Disk quota exceeded'; }
check 'a container that is not limited' 0 "$(full box sh -c "$fill")"
check 'a container that is full' 1 "$(full --storage-opt size=2m box dd if=/dev/zero of=/file bs=64k count=64)"
check 'what df says' 2048 "$(corten run --rm --network none --storage-opt size=2m box df -k / | tail -1 | awk '{print $2}')"
check 'what inspect says' 'map[size:2m]' "$(corten inspect --format '{{.HostConfig.StorageOpt}}' $(corten create --name shown --network none --storage-opt size=2m box true))"
corten rm shown >/dev/null
corten volume create -o size=1m small >/dev/null
check 'a volume that is full' 1 "$(full -v small:/data box dd if=/dev/zero of=/data/file bs=64k count=64)"
check 'its neighbour' 0 "$(full -v large:/data box dd if=/dev/zero of=/data/file bs=64k count=32)"

# Numbers of projects are not given twice, whatever happens to the daemon.
corten run -d --name one --network none --storage-opt size=3m box sh -c 'dd if=/dev/zero of=/file bs=64k count=32 2>/dev/null; while :; do sleep 1000; done' >/dev/null
stop -9
start
check 'another one after the daemon died' 1 "$(full --storage-opt size=2m box dd if=/dev/zero of=/file bs=64k count=64)"
check 'and one that fits' 0 "$(full --storage-opt size=2m box dd if=/dev/zero of=/file bs=64k count=16)"
corten rm -f one >/dev/null
corten volume rm small large >/dev/null
check 'nothing is left' '' "$(ls /var/lib/corten/active /var/lib/corten/volumes | grep -v : | head -c 100)"
stop -TERM
start --storage-opt overlay2.size=2m
check 'a container that says nothing, full' 1 "$(full box dd if=/dev/zero of=/file bs=64k count=64)"
check 'one that says more' 0 "$(full --storage-opt size=8m box dd if=/dev/zero of=/file bs=64k count=64)"
stop -TERM
[ $failed = 0 ] || tail -20 /tmp/log
exit $failed
