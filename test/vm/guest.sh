#!/bin/bash
# guest.sh is what runs in the machine in the machine, as its first process: it makes it a system, runs the checks
# that its arguments name, says what came of them, and turns it off. See vm.sh.
#
# Checks are the functions of checks/*.sh whose name begins with that of their file and an underscore. Each runs in
# a shell of its own, and is well if no command in it fails.
set -u
src=$1 # the checkout
shift
export PATH=/opt:/vm:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
export NACRE_TEST_CACHE=/cache
here=$src/test/vm
groups=(limits users images tests)
case $(uname -r) in 5.*) groups=(old) ;; esac

# system makes of a kernel and a file system a machine with users. There is no systemd: cgroups are as we make them.
system() {
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t securityfs security /sys/kernel/security
	mkdir -p /dev/pts /dev/shm
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /dev/pts
	mount -t tmpfs shm /dev/shm
	mount -t tmpfs -o mode=755 run /run
	mkdir /run/lock
	ln -sf /proc/self/fd /dev/fd
	for n in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${n%:*}" "/dev/${n#*:}"; done

	# The kernel finds its modules where they are.
	printf '#!/bin/sh\nexec /usr/sbin/modprobe -d /modules "$@"\n' >/etc/modprobe.vm
	chmod 755 /etc/modprobe.vm
	echo /etc/modprobe.vm >/proc/sys/kernel/modprobe
	for m in loop erofs tun; do /etc/modprobe.vm $m; done
	chmod 666 /dev/net/tun

	printf '%s\n' root:x:0:0:root:/root:/bin/bash nobody:x:65534:65534::/nonexistent:/bin/false \
		nacre-test:x:990:990::/home/nacre-test:/bin/bash nacre-one:x:991:991::/home/nacre-one:/bin/bash >/etc/passwd
	printf '%s\n' root:x:0: tty:x:5: disk:x:6: nogroup:x:65534: nacre-test:x:990: nacre-one:x:991: >/etc/group
	echo nacre-test:1900000000:65536 | tee /etc/subuid >/etc/subgid
	for u in nacre-test nacre-one; do
		mkdir -p "/home/$u"
		chown "$u:$u" "/home/$u"
	done
	echo 127.0.0.1 localhost vm >/etc/hosts
	: >/etc/resolv.conf
	mkdir /opt
	cp /vm/nacre /opt/ # what runs stays, whatever is built outside
	ip link set lo up
	hostname vm
	ulimit -n 65536
	umask 022
}

# checks_of lists the checks that arguments name: groups, or single ones; all, where there are none.
checks_of() {
	local want
	[ $# -gt 0 ] || set -- "${groups[@]}"
	for want; do
		case " ${groups[*]} " in
		*" $want "*) declare -F | awk -v p="$want" '$3 ~ "^" p "_" { print $3 }' ;;
		*) echo "$want" ;;
		esac
	done
}

run_checks() {
	local failures=0 ran=0 name begin
	nacre import /cache/busybox.tar busybox >/dev/null || failures=1
	for name in $(checks_of "$@"); do
		begin=$SECONDS ran=$((ran + 1))
		if timeout -k 10 "${LIMIT:-400}" bash "$here/guest.sh" --check "$name" >/tmp/said 2>&1; then
			echo "ok    $name ($((SECONDS - begin)) s)"
		else
			echo "FAIL  $name ($((SECONDS - begin)) s)"
			tail -n 60 /tmp/said | cut -c 1-400 | sed 's/^/      /'
			failures=$((failures + 1))
		fi
	done
	echo "$ran checks, $failures failed"
	[ $failures -gt 0 ] || [ $ran = 0 ] || echo '== vm: all is well'
}

[ "$src" != --check ] || here=$(dirname "$0")
for file in "$here"/checks/*.sh; do
	# shellcheck source=/dev/null
	. "$file"
done

# One check, in this shell: see run_checks.
if [ "$src" = --check ]; then
	src=$(cd "$here/../.." && pwd)
	cd "$(mktemp -d)" || exit
	chmod 755 .
	exec 9>&2 # what is traced is no part of what commands say
	BASH_XTRACEFD=9
	set -eux -o pipefail
	"$1"
	clean
	exit
fi

system
uname -srv
case ${1-} in
shell) setsid -c bash -i </dev/ttyS0 >/dev/ttyS0 2>&1 ;;
*) run_checks "$@" ;;
esac
echo o >/proc/sysrq-trigger
while :; do :; done
