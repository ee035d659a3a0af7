# A guest's script: established connections by the kernel's flow table, which a developer's kernel may lack. Expects
# `corten`, `nft` and `ip` in /work.
check() { # WHAT WANTED GOT
  if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: wanted '$2', got '$3'"; failed=1; fi
}
failed=0
trap '' PIPE
export DOCKER_HOST=unix:///run/c.sock
link() { ./ip "$@"; } # `ip` alone is the shell's own

# The world: another host, with two ways to it.
unshare -n sleep 100000 &
world=$!
while [ "$(readlink /proc/$world/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
uplink() { # NAME PREFIX
  link link add "$1" type veth peer name "$1" netns $world
  link addr add "$2.1/24" dev "$1"
  link addr add "fd00:${2##*.}::1/64" dev "$1" nodad
  link link set "$1" up
  out ifconfig "$1" "$2.2" up
  out ifconfig "$1" add "fd00:${2##*.}::2/64"
}
out() { nsenter -t $world -n "$@"; }
uplink up0 10.9.1

start() { # FLAGS...
  corten daemon "$@" -H unix:///run/c.sock --data-root /var/lib/corten --exec-root /run/corten --pidfile /run/c.pid >>/tmp/log 2>&1 &
  for i in $(seq 100); do corten ps >/dev/null 2>&1 && break; sleep 0.1; done
}
stop() { # [SIGNAL]
  pid=$(cat /run/c.pid)
  kill "${1:--TERM}" "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}
flows() { corten info --format '{{json .FirewallBackend.Info}}'; }
becomes() { # WHAT WANTED COMMAND...
  what=$1 wanted=$2
  shift 2
  for i in $(seq 100); do got=$("$@"); [ "$got" = "$wanted" ] && break; sleep 0.1; done
  check "$what" "$wanted" "$got"
}
listens() { nsenter -t "$1" -n netstat -tln | grep -c ":$2 "; } # PID PORT
echoes() { # CONTAINER
  becomes "$1 listens" 1 listens "$(corten inspect --format '{{.State.Pid}}' "$1")" 7
}
IN_USE='[["FlowTable","in use"]]'

start
mkdir -p /tmp/root/bin
cp /bin/busybox /tmp/root/bin/
for name in sh cat nc sleep; do ln -sf busybox /tmp/root/bin/$name; done
tar -C /tmp/root -c . | corten import - box >/dev/null || echo "FAIL import"
corten network create --ipv6 --subnet fd00:7::/64 net >/dev/null
corten run -d --name echo --network net -p 7:7 box nc -ll -p 7 -e cat >/dev/null
becomes 'a host of its own' "$IN_USE" flows
echoes echo

# A connection that stays: what is said comes back.
talk() { # NAME ADDRESS PORT
  mkfifo "/tmp/$1.in"
  out nc "$2" "$3" <"/tmp/$1.in" >"/tmp/$1.got" &
}
said() { # FD NAME WORD: does it come back?
  echo "$3" >&"$1"
  for i in $(seq "${patience:-150}"); do grep -q "$3" "/tmp/$2.got" && echo yes && return; sleep 0.1; done
  echo no
}
offloaded() { grep -c "$1.*OFFLOAD" /proc/net/nf_conntrack; }
talk four 10.9.1.1 7; exec 4>/tmp/four.in
talk six fd00:1::1 7; exec 6>/tmp/six.in
for word in one two three; do
  check "IPv4, $word" yes "$(said 4 four $word)"
  check "IPv6, $word" yes "$(said 6 six $word)"
done
becomes 'IPv4 passes by the table' 1 offloaded ^ipv4.*dport=7
becomes 'IPv6 passes by the table' 1 offloaded ^ipv6.*dport=7
nft 'insert rule inet corten settled counter'
check 'it goes on' yes "$(said 4 four counted)"
counter() { nft -a list chain inet corten settled | sed -n "s/.*$1 *\([0-9]*\).*/\1/p" | head -1; }
check 'no rule is asked' 0 "$(counter packets)"
nft delete rule inet corten settled handle "$(counter 'counter.*handle')"

# What leaves.
out nc -ll -p 8 -e cat &
becomes 'the other host listens' 1 listens $world 8
corten exec echo sh -c '(echo a; sleep 1; echo b; sleep 100) | nc 10.9.1.2 8' >/tmp/left &
becomes 'what leaves comes back' 'a b' sh -c 'echo $(cat /tmp/left)'
becomes 'what leaves passes by the table' 1 offloaded dport=8

# Somebody else's rule sees every packet, at once.
nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; }; add rule inet mine f tcp dport 7 drop'
becomes "somebody's rule" '[["FlowTable","not in use: the chain inet mine f sees what is forwarded"]]' flows
check 'it holds' no "$(patience=30 said 4 four dropped)"
nft delete table inet mine
becomes 'when it is gone' "$IN_USE" flows
check 'the connection goes on' yes "$(said 4 four after)"
becomes 'by the table' 1 offloaded ^ipv4.*dport=7
nft add rule inet corten user tcp dport 7 drop
becomes "the operator's rule" '[["FlowTable","not in use: the chain inet corten user sees what is forwarded"]]' flows
check 'it holds too' no "$(patience=30 said 4 four refused)"
nft flush chain inet corten user
becomes 'when that is gone' "$IN_USE" flows
check 'the connection goes on again' yes "$(said 4 four accepted)"
nft 'add table ip nat; add chain ip nat p { type nat hook prerouting priority -100; }; add rule ip nat p tcp dport 9 dnat to 10.9.1.2'
nft 'add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; }; add rule ip filter INPUT accept'
nft 'add chain ip filter FORWARD { type filter hook forward priority 0; }'
sleep 1
check 'translation, what is for the host, and a chain that says nothing' "$IN_USE" "$(flows)"
nft delete table ip nat
nft delete table ip filter
nft flush ruleset
built() { nft list chains | grep -c 'chain settled'; }
becomes 'the table is made anew' 1 built
becomes 'after a flush of everything' "$IN_USE" flows
check 'the connection survives a flush' yes "$(said 4 four flushed)"

# Another way out, and another network.
uplink up1 10.9.2
corten network create second >/dev/null
corten run -d --name other --network second -p 10:7 box nc -ll -p 7 -e cat >/dev/null
echoes other
talk way 10.9.2.1 10; exec 5>/tmp/way.in
for word in one two three; do check "the other way, $word" yes "$(said 5 way $word)"; done
becomes 'it passes by the table' 1 offloaded dport=10
interfaces() { nft list flowtables | sed -n 's/.*devices = { \(.*\) }.*/\1/p' | tr -d '",'; }
check 'where packets come in' 'up0 up1' "$(interfaces | grep -o 'up[01]' | sort | xargs)"
check 'three bridges, two ports, two ways out' 7 "$(interfaces | wc -w)"

# The daemon dies, and comes back; it is stopped, and nobody would hear of rules.
stop -9
check 'no daemon' yes "$(said 4 four alone)"
start
becomes 'a new daemon' "$IN_USE" flows
check 'the connection outlives the daemon' yes "$(said 4 four back)"
becomes 'by its table' 1 offloaded ^ipv4.*dport=7
stop
flow_tables() { nft list flowtables | grep -c flowtable; }
becomes 'stopped' 0 flow_tables
check 'no daemon, by the rules' yes "$(said 4 four stopped)"
start --flow-offload=false
becomes 'switched off' '[["FlowTable","not in use: --flow-offload=false"]]' flows
check 'by the rules' yes "$(said 4 four off)"
check 'and not by a table' 0 "$(offloaded ^ipv4.*dport=7)"
stop
start

# Frames of a bridge pass iptables' hooks, or they do not.
for switch in 0 1; do
  echo $switch >/proc/sys/net/bridge/bridge-nf-call-iptables
  echo $switch >/proc/sys/net/bridge/bridge-nf-call-ip6tables
  becomes "bridge-nf-call-iptables=$switch" "$IN_USE" flows
  for word in one two three; do
    check "IPv4, $word" yes "$(said 4 four "$switch-$word")"
    check "IPv6, $word" yes "$(said 6 six "$switch-$word")"
  done
  becomes 'IPv4 passes by the table' 1 offloaded ^ipv4.*dport=7
  becomes 'IPv6 passes by the table' 1 offloaded ^ipv6.*dport=7
  check 'neighbours' yes "$(corten run --rm --network net box sh -c '(echo hello; sleep 1; echo again; sleep 1) | nc echo 7' | grep -q again && echo yes)"
  check 'a neighbour by the published port' yes "$(corten run --rm --network net box sh -c '(echo hello; sleep 1; echo again; sleep 1) | nc 10.9.1.1 7' | grep -q again && echo yes)"
  check 'another network by the published port' yes "$(corten run --rm --network second box sh -c '(echo hello; sleep 1; echo again; sleep 1) | nc 10.9.1.1 7' | grep -q again && echo yes)"
done

# A connection to a container that is gone is reset, also from a table.
for word in one two three; do said 5 way "last-$word" >/dev/null; done
becomes 'it passes by the table' 1 offloaded dport=10
corten rm -f other >/dev/null
becomes 'with its container the table forgets it' 0 offloaded dport=10
corten run -d --name other --network second -p 10:7 box nc -ll -p 7 -e cat >/dev/null
echoes other
connected() { out netstat -tn | grep -c ':10 *ESTABLISHED'; }
sleep 1
echo anybody >&5
becomes 'the other side hears of it' 0 connected

corten rm -f echo other >/dev/null
corten network rm net second >/dev/null
stop
[ $failed = 0 ] || tail -30 /tmp/log
exit $failed
