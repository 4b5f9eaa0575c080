# A kernel that is too old for containers (Linux 5.10): that is said, and builds work by chroot.

old_root() {
	nacre info >said
	grep 'Isolation: chroot' said
	grep 'the kernel is older than Linux 5.12' said
	mkdir b
	printf 'FROM busybox\nRUN echo built >/out && chown 5:6 /out\nCOPY Dockerfile /\n' >b/Dockerfile
	nacre build -q -t a b
	is 'built 5:6' nacre run --rm a sh -c 'echo $(cat /out) $(stat -c %u:%g /out)'
	ends 125 nacre run -d a true
	ends 1 nacre build --isolation=root -q --no-cache b
	grep 'older than Linux 5.12' said
}

old_user() {
	usable nacre-test
	as nacre-test nacre info >said
	grep 'Isolation: none' said
	grep 'older than Linux 5.12' said
	ends 125 as nacre-test nacre run --rm busybox true
}
