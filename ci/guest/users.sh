# A guest's script: containers in user namespaces on a host with cgroup v2 alone, whose kernel stacks only layers that are
# mounted somewhere (before Linux 6.15). Expects `corten` and `disk`, an ext4, in /work.
check() { # WHAT WANTED GOT
  if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: wanted '$2', got '$3'"; failed=1; fi
}
failed=0
export DOCKER_HOST=unix:///run/c.sock
mkdir -p /var/lib/corten
mount -o loop -t ext4 /work/disk /var/lib/corten || echo "FAIL mount"
umask 077
corten daemon --userns-remap default -H unix:///run/c.sock --data-root /var/lib/corten --exec-root /run/corten --pidfile /run/c.pid >/tmp/log 2>&1 &
umask 022
for i in $(seq 100); do corten ps >/dev/null 2>&1 && break; sleep 0.1; done
mkdir -p /tmp/root/bin /tmp/root/data
cp /bin/busybox /tmp/root/bin/
for name in sh cat head tail awk ls rm touch chown stat id sleep wc mkdir true; do ln -sf busybox /tmp/root/bin/$name; done
chown 33:34 /tmp/root/data
tar -C /tmp/root -c . | corten import - below >/dev/null || echo "FAIL import"
corten run --name made --network none below touch /above && corten commit made box >/dev/null && corten rm made >/dev/null
run() { corten run --rm --network none "$@" 2>&1; }

check 'not the host'"'"'s root' 1 "$(run box awk '{print ($2 > 0)}' /proc/self/uid_map)"
check 'owners in layers and volumes' '0:0 33:34 0:0' "$(run -v named:/data box stat -c %u:%g / /data /above | head -c 100 | tr '\n' ' ' | sed 's/ $//')"
check 'what is written is its own' '5:6' "$(run -v named:/data box sh -c 'touch /data/x; chown 5:6 /data/x; stat -c %u:%g /data/x')"
check 'and on the disk too' '5:6' "$(stat -c %u:%g /var/lib/corten/volumes/named/_data/x)"
check 'a limit' 20 "$(run --pids-limit 20 box cat /sys/fs/cgroup/pids.max)"
check 'a cgroup that may be written to' '0::/own' "$(run --security-opt writable-cgroups=true box sh -c 'mkdir /sys/fs/cgroup/own && echo $$ >/sys/fs/cgroup/own/cgroup.procs; cat /proc/self/cgroup')"
corten run -d --name one --network none -v named:/data box sleep 1000 >/dev/null
check 'an exec' '0 0::/' "$(corten exec one sh -c 'echo $(id -u) $(cat /proc/self/cgroup)')"
check 'the same user namespace' "$(corten exec one stat -L -c %i /proc/1/ns/user)" "$(corten exec one stat -L -c %i /proc/self/ns/user)"
check 'its processes beside it' 'sleep 1000' "$(run --pid container:one box cat /proc/1/cmdline | tr '\0' ' ' | sed 's/ $//')"
echo sent >/tmp/sent
corten cp /tmp/sent one:/data/sent
check 'a copy into it' 'sent 0' "$(corten exec one sh -c 'echo $(cat /data/sent) $(stat -c %u /data/sent)')"
check 'a copy out of it' sent "$(corten cp one:/data/sent - | tar -xO)"
corten rm -f one >/dev/null
check 'in no user namespace' 0 "$(run --userns host box awk '{print $2}' /proc/self/uid_map)"
check 'nothing is left' '' "$(ls /var/lib/corten/active /run/corten/tasks | grep -v : | head -c 100)"
kill "$(cat /run/c.pid)"; sleep 1
[ $failed = 0 ] || tail -20 /tmp/log
exit $failed
