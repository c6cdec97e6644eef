# Reads the sockets of a host that has no Python, with what it has: ss, /proc, netstat or lsof. Sent to /bin/sh over its
# stdin, line by line; then each request is one more line: ask NONCE WORD... It writes nothing and changes nothing.
# Behind it comes the line sysctls='NAME...': the settings that are asked for, by their paths below /proc/sys/net.
# An answer is sections: a line "NONCE name status length", then so many bytes. The last section is called end and
# names those before it.
LC_ALL=C
export LC_ALL
PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin
has() { command -v "$1" >/dev/null 2>&1; }
say() { sections="$sections $1"; printf '\n%s %s %s %s\n%s' "$nonce" "$1" "$2" "${#3}" "$3"; }
run() { name=$1; shift; text=$("$@" </dev/null 2>/dev/null); say "$name" "$?" "$text"; }
got() { text=$("$@" </dev/null 2>/dev/null) && [ -n "$text" ]; }
facts() {
  run uname uname -snr
  run id id -u
  run boot_id cat /proc/sys/kernel/random/boot_id
  run uptime cat /proc/uptime
  run netns ls -l /proc/self/ns/net
  say session 0 "$SSH_CONNECTION"
  if got ip -o addr; then say ip 0 "$text"
  elif [ -r /proc/net/fib_trie ]; then run fib_trie cat /proc/net/fib_trie; run if_inet6 cat /proc/net/if_inet6
  else run ifconfig ifconfig -a
  fi
}
by_netstat() {
  case $(uname) in
    Linux) got netstat -taneoW || got netstat -tan ;;
    SunOS) got netstat -an -P tcp ;;
    *) got netstat -anW -p tcp || got netstat -an -p tcp || got netstat -an ;;
  esac
}
table() {
  if has ss && got ss -tanoe; then say ss 0 "$text"
  elif got cat /proc/net/tcp; then
    say tcp 0 "$text"
    if [ -e /proc/net/tcp6 ]; then run tcp6 cat /proc/net/tcp6; else say no-tcp6 0 ""; fi
  elif has netstat && by_netstat; then say netstat 0 "$text"
  else text=$(lsof -nP -iTCP -FpcuftdPnT </dev/null 2>/dev/null); say lsof 0 "$text"
  fi
}
counters() {
  run netstat cat /proc/net/netstat
  run snmp cat /proc/net/snmp
  text=
  for file in $sysctls; do
    value=
    [ -r "/proc/sys/net/$file" ] && read -r value <"/proc/sys/net/$file"
    text="$text${file##*/} $value
"
  done
  say sysctls 0 "$text"
}
owners() {
  if has ss && got ss -tanpe; then say ss 0 "$text"
  else
    text=$(ls -ln /proc/[0-9]*/fd </dev/null 2>/dev/null | grep -e ^/proc -e socket:)
    say descriptors 0 "$text"
    run names grep -s . /proc/[0-9]*/comm /dev/null
  fi
  run states grep -s ^State: /proc/[0-9]*/status /dev/null
}
ask() {
  nonce=$1 sections=
  shift
  for word in "$@"; do "$word"; done
  say end 0 "$sections"
}
