#!/usr/bin/env bash
# bare.sh proves that a clean clone works on a bare machine: it makes a minimal Debian 12
# with Go, make and certificates and nothing else, clones this checkout's HEAD into it,
# and runs "make demo" and "make test" there. It needs root, and takes a quarter of an hour.
#
#   test/bare.sh            demo and test
#   test/bare.sh demo       make's targets as arguments
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo 'bare.sh: root is needed to make a Debian' >&2; exit 1; }

# The rest runs in a mount, pid and ipc namespace of its own: when it ends, its mounts and
# its processes are gone.
if [ "${BARE_INSIDE-}" != yes ]; then
	exec env BARE_INSIDE=yes unshare --mount --pid --ipc --fork --kill-child --propagation private "$0" "$@"
fi
[ $# -gt 0 ] || set -- demo test

debian=$(scripts/setup debian)
root=$(mktemp -d "$PWD/.cache/bare.XXXXXX")
trap 'umount -R "$root" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
say() { printf '\n== bare: %s (%s)\n' "$*" "$(date +%T)"; }

say "Debian 12 from debootstrap, Go from $(go env GOROOT)"
tar -xpf "$debian" -C "$root" --numeric-owner --xattrs
cp -a "$(go env GOROOT)" "$root/usr/local/go"
mkdir -p "$root/src"
git clone -q "$PWD" "$root/src/nacre"
printf 'bare\n' >"$root/etc/hostname"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"

# A machine's root is a mount point; pivot_root insists on it.
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

inside() {
	env -i HOME=/root TERM="${TERM-dumb}" LANG=C.UTF-8 PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		${http_proxy+http_proxy="$http_proxy"} ${https_proxy+https_proxy="$https_proxy"} ${no_proxy+no_proxy="$no_proxy"} \
		"${certs[@]}" GOPROXY="$(go env GOPROXY)" GOSUMDB="$(go env GOSUMDB)" \
		chroot "$root" "$@"
}
# This machine's certificates, which setup put into the Debian base.
certs=()
[ ! -e "$root/etc/ssl/machine.crt" ] || certs=(SSL_CERT_FILE=/etc/ssl/machine.crt)

say "make and certificates, as the README says"
inside sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends make ca-certificates >/dev/null'
inside sh -c 'dpkg-query -f . -W | wc -c | sed "s/$/ packages/"; go version; nproc'

for target; do
	say "make $target"
	begin=$(date +%s)
	inside make -C /src/nacre "$target"
	say "make $target: done in $(($(date +%s) - begin)) s"
done
