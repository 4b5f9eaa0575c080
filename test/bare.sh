#!/usr/bin/env bash
# bare.sh proves that a clean clone works on a bare machine: it makes a minimal Debian 12
# with Go, make and certificates and nothing else, clones this checkout's HEAD into it,
# and runs "make demo" and "make test" there. It needs root, and takes some ten minutes.
#
#   test/bare.sh            demo and test
#   test/bare.sh demo       make's targets as arguments
set -euo pipefail
say() { printf '\n== bare: %s (%s)\n' "$*" "$(date +%T)"; }

# machine ROOT TARGET... is the second half: it runs in namespaces of its own, so that
# its mounts and processes end with it. The new root is entered as a machine's is, by
# pivot_root: in a mere chroot the kernel allows less (no user namespaces, for one).
machine() {
	local root=$1 d target begin
	shift
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount -t tmpfs -o mode=755 dev "$root/dev"
	for d in null zero full random urandom tty; do touch "$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"; done
	ln -s /proc/self/fd "$root/dev/fd"
	ln -s /proc/self/fd/0 "$root/dev/stdin"
	ln -s /proc/self/fd/1 "$root/dev/stdout"
	ln -s /proc/self/fd/2 "$root/dev/stderr"
	mkdir "$root/dev/pts" "$root/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
	ln -s pts/ptmx "$root/dev/ptmx"
	mount -t tmpfs shm "$root/dev/shm"
	cd "$root"
	mkdir old
	pivot_root . old
	cd /
	umount -l /old
	rmdir /old

	say "make and certificates, as the README says"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends make ca-certificates >/dev/null
	echo "$(dpkg-query -f . -W | wc -c) packages, $(nproc) processors, $(go version)"
	for target; do
		say "make $target"
		begin=$SECONDS
		make -C /src/nacre "$target"
		say "make $target: done in $((SECONDS - begin)) s"
	done
}

if [ "${1-}" = --machine ]; then
	shift
	machine "$@"
	exit
fi

cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo 'bare.sh: root is needed to make a Debian' >&2; exit 1; }
[ $# -gt 0 ] || set -- demo test
debian=$(scripts/setup debian)
root=$(mktemp -d "$PWD/.cache/bare.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"

say "Debian 12 from debootstrap, Go from $(go env GOROOT)"
tar -xpf "$debian" -C "$root" --numeric-owner --xattrs
cp -a "$(go env GOROOT)" "$root/usr/local/go"
mkdir "$root/src"
git clone -q "$PWD" "$root/src/nacre"
echo bare >"$root/etc/hostname"
echo '127.0.0.1 localhost bare' >"$root/etc/hosts"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"

# Of this machine's environment the new one gets the way to the network, and nothing else.
environment=(HOME=/root TERM="${TERM-dumb}" LANG=C.UTF-8 GOPROXY="$(go env GOPROXY)" GOSUMDB="$(go env GOSUMDB)"
	PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for name in http_proxy https_proxy no_proxy; do [ -z "${!name-}" ] || environment+=("$name=${!name}"); done
[ ! -e "$root/etc/ssl/machine.crt" ] || environment+=(SSL_CERT_FILE=/etc/ssl/machine.crt)
env -i "${environment[@]}" unshare --mount --uts --pid --ipc --fork --kill-child --propagation private \
	/bin/bash "$0" --machine "$root" "$@"
