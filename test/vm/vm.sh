#!/usr/bin/env bash
# vm.sh runs nacre on other kernels than this machine's: it starts Debian's kernels in qemu, with cgroups of
# version 2 and all their controllers, and runs tests and checks there, as root and as ordinary users.
# The machine in the machine sees this one's /usr, this checkout and nothing else of it, all read-only, and has a
# disk of its own and no network. It needs root only to install what is missing, and takes some minutes per kernel.
#
#   test/vm/vm.sh                      all kernels, all checks
#   test/vm/vm.sh 6.1                  one kernel: 5.10 (bullseye), 6.1 (bookworm), 6.12 (bookworm-security)
#   test/vm/vm.sh 6.1 limits users     some checks: see guest.sh
#   test/vm/vm.sh 6.1 shell            a shell on the console
#
# NACRE_VM_ACCEL=kvm is much faster where it works; the machine is emulated otherwise. NACRE_VM_BIN names a
# directory with the programs, in place of building them.
set -euo pipefail
cd "$(dirname "$0")/../.."
say() { printf '\n== vm: %s (%s)\n' "$*" "$(date +%T)"; }
die() { printf 'vm.sh: %s\n' "$*" >&2; exit 1; }

cache=$(readlink -f .cache)/vm
mkdir -p "$cache"

# package names the Debian package of a kernel and where it is: a path below a mirror for what apt does not know.
package() {
	case $1 in
	6.1 | 6.12)
		local meta=linux-image-amd64
		[ "$1" = 6.1 ] || meta=linux-image-6.12-amd64
		apt-cache depends "$meta" | awk '$1 == "Depends:" && $2 ~ /^linux-image/ { print $2; exit }'
		;;
	5.10)
		curl -sSf "$security/dists/bullseye-security/main/binary-amd64/Packages.xz" | xz -dc |
			awk '$1 == "Package:" { p = $2 } $1 == "Filename:" && p ~ /^linux-image-5\.10\.0-[0-9]+-amd64$/ { print $2 }' | sort -V | tail -n 1
		;;
	*) die "no kernel $1: there are 5.10, 6.1 and 6.12" ;;
	esac
}
security=http://deb.debian.org/debian-security

# kernel prints the directory with vmlinuz, and the modules below lib/modules, of a kernel. Nothing is installed.
kernel() {
	local dir=$cache/linux-$1 name
	if [ ! -e "$dir/vmlinuz" ]; then
		name=$(package "$1")
		[ -n "$name" ] || die "Debian has no package of Linux $1"
		say "$name" >&2
		rm -rf "$dir.part"
		mkdir -p "$dir.part"
		(
			cd "$dir.part"
			case $name in
			pool/*) curl -sSfO "$security/$name" ;;
			*) apt-get -qq -o APT::Sandbox::User=root download "$name" >&2 ;;
			esac
			dpkg-deb -x ./*.deb .
			rm ./*.deb
			mv boot/vmlinuz-* vmlinuz
			depmod -b . "$(ls lib/modules)"
		) || die "the package of Linux $1 cannot be had"
		mv "$dir.part" "$dir"
	fi
	echo "$dir"
}

# first packs the initial root: busybox, what it takes to see the disk, and init.
first() {
	local kernel=$1 out=$2 dir version m
	dir=$work/first
	rm -rf "$dir"
	mkdir -p "$dir"/{bin,proc,sys,dev,new,modules}
	cp /bin/busybox "$dir/bin/"
	cp test/vm/init.sh "$dir/init"
	cp -a /etc/alternatives "$dir/"
	version=$(ls "$kernel/lib/modules")
	for m in virtio_pci virtio_blk ext4 crc32c_generic 9p 9pnet_virtio overlay; do
		modprobe -d "$kernel" -S "$version" --show-depends "$m" | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r m; do
		cp "$m" "$dir/modules/"
		basename "$m" >>"$dir/modules/list"
	done
	(cd "$dir" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$out"
}

# build makes what runs inside: nacre, and the tests as programs.
build() {
	say "building"
	export CGO_ENABLED=0
	bin=$work/bin
	mkdir "$bin"
	go build -trimpath -ldflags "-s -w" -o "$bin/" ./cmd/nacre
	[[ " ${*:-tests} " == *" tests "* ]] || return 0
	for p in "${packages[@]}"; do go test -c -o "$bin/${p//\//-}.test" "./$p"; done
}
packages=(internal/sandbox internal/rootfs internal/container cmd/nacre)

# boot starts one machine and waits for its end. What it says last is the verdict.
boot() {
	local name=$1 dir
	shift
	dir=$(kernel "$name")
	first "$dir" "$work/first.gz"
	rm -f "$work/disk"
	truncate -s 12G "$work/disk"
	mke2fs -q -t ext4 -O ^has_journal "$work/disk"
	say "Linux $name: ${*:-all checks}"
	share() { echo "-virtfs local,path=$2,mount_tag=$1,security_model=none,readonly=on,multidevs=remap"; }
	# shellcheck disable=SC2046 # options are words
	qemu-system-x86_64 -machine "q35,accel=${NACRE_VM_ACCEL:-tcg}" -cpu max,-arch-capabilities -smp 2 -m 3G -nodefaults -no-reboot -nographic -serial stdio \
		-kernel "$dir/vmlinuz" -initrd "$work/first.gz" \
		-append "console=ttyS0 quiet loglevel=3 panic=-1 cgroup_no_v1=all mitigations=off no_timer_check apparmor=1 security=apparmor -- $PWD $*" \
		-drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" \
		$(share usr /usr) $(share src "$PWD") $(share cache "$(readlink -f .cache)") $(share modules "$dir/lib/modules") $(share bin "$bin") $(share dpkg /var/lib/dpkg) \
		</dev/null 2>&1 | sed -u 's/\r$//' | tee "$work/log"
	grep -q '^== vm: all is well' "$work/log" || failed+=("$name")
}

kernels=() checks=() failed=()
for arg; do
	case $arg in [0-9]*) kernels+=("$arg") ;; *) checks+=("$arg") ;; esac
done
[ ${#kernels[@]} -gt 0 ] || kernels=(6.1 6.12 5.10)
work=$(mktemp -d /var/tmp/nacre-vm.XXXXXX)
bin=${NACRE_VM_BIN-}
trap 'rm -rf "$work"' EXIT
[ -n "$bin" ] || build ${checks[@]+"${checks[@]}"}
for k in "${kernels[@]}"; do boot "$k" ${checks[@]+"${checks[@]}"}; done
[ ${#failed[@]} -eq 0 ] || die "Linux ${failed[*]}: not all is well"
say "all is well on Linux ${kernels[*]}"
