# Ordinary users: with subordinate ids (nacre-test) and without (nacre-one), with a cgroup that was delegated to them
# as systemd does it, and without.

# as USER COMMAND...: in a login of that user's, in the cgroup $in.
as() {
	local user=$1
	shift
	(
		[ -z "${in-}" ] || echo $BASHPID >"$top/$in/cgroup.procs"
		cd "/home/$user"
		exec setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="/home/$user" USER="$user" "$@"
	)
}

# delegate USER CONTROLLERS: a cgroup of that user's with those, and one below it that the user's processes are in.
delegate() {
	local user=$1 c
	shift
	mkdir -p "$top/for-$user/$user/login"
	for c in cpu cpuset io memory pids; do echo "-$c" >"$top/for-$user/cgroup.subtree_control" || true; done
	for c; do
		echo "+$c" >$top/cgroup.subtree_control
		echo "+$c" >"$top/for-$user/cgroup.subtree_control"
	done
	chown "$user" "$top/for-$user/$user"{,/cgroup.procs,/cgroup.subtree_control,/cgroup.threads}
	chown -R "$user" "$top/for-$user/$user/login"
	in=for-$user/$user/login
}

undelegate() {
	local dir
	for dir in nacre login .; do eventually rmdir "$(realpath -s "$top/for-$1/$1/$dir")"; done
	rmdir "$top/for-$1"
	in=
}

# usable has the user's store hold busybox.
usable() { as "$1" nacre image inspect busybox >/dev/null 2>&1 || as "$1" nacre import /cache/busybox.tar busybox; }

users_run() {
	local user
	for user in nacre-test nacre-one; do
		usable $user
		is 'root 0' as $user nacre run --rm busybox sh -c 'echo $(whoami) $(id -u)'
		as $user nacre info
	done
	as nacre-test nacre info | grep 'Isolation: userns'
	as nacre-one nacre info | grep 'Isolation: single'
	is 33 as nacre-test nacre run --rm -u www-data busybox id -u
}

# Without a cgroup there is one line that says so, and the container runs.
users_not_delegated() {
	local user
	for user in nacre-test nacre-one; do
		usable $user
		ends 0 as $user nacre run --rm -m 32m --cpus 0.5 --pids-limit 20 busybox echo it runs
		grep 'it runs' said
		is 1 grep -c '^warning: .*not applied: no cgroup is delegated to the user' said
		as $user nacre info >said
		grep 'no cgroup is delegated' said
		ends 0 as $user nacre run -d --name web busybox sleep 1000
		ends 1 as $user nacre update -m 32m web
		grep 'no cgroup is delegated' said
		ends 1 as $user nacre pause web
		as $user nacre stats --no-stream web
		ends 0 as $user nacre rm -f web
	done
}

users_delegated() {
	local user in=
	for user in nacre-test nacre-one; do
		usable $user
		delegate $user memory pids cpu cpuset io
		as $user nacre info | grep 'Controllers: .*memory.*pids'
		ends 0 as $user nacre run --rm -m 32m --memory-swap 32m --cpus 0.5 --pids-limit 20 --cpuset-cpus 0 busybox sh -c "cd $top; echo \$(cat memory.max memory.swap.max cpu.max pids.max cpuset.cpus)"
		is '33554432 0 50000 100000 20 0' cat said
		ends 137 as $user nacre run --name oom -m 32m busybox dd if=/dev/zero of=/dev/null bs=100M count=1
		is true as $user nacre inspect -f '{{.State.OOMKilled}}' oom
		as $user nacre rm oom
		ends 2 as $user nacre run --rm --pids-limit 10 busybox sh -c 'for i in $(seq 20); do sleep 1 & done'
		grep "can't fork" said
		as $user nacre run -d --name web -m 64m busybox sleep 1000
		as $user nacre stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' web | grep -E '[KM]iB / 64MiB 1'
		as $user nacre update -m 96m --memory-swap 96m --pids-limit 9 web
		is 9 as $user nacre exec web cat $top/pids.max
		is 100663296 as $user nacre exec web cat $top/memory.max
		as $user nacre pause web
		as $user nacre ps | grep Paused
		as $user nacre unpause web
		as $user nacre rm -f web
		# one that has no limits, and gets a cgroup to be paused in, and limits later
		as $user nacre run -d --name web busybox sleep 1000
		as $user nacre pause web
		as $user nacre unpause web
		as $user nacre update --pids-limit 9 web
		as $user nacre rm -f web
		as $user sh -c 'mkdir -p b; printf "FROM busybox\nRUN cat /sys/fs/cgroup/memory.max >/out\n" >b/Dockerfile; nacre build -q -m 48m -t lim b'
		is 50331648 as $user nacre run --rm lim cat /out
		undelegate $user
	done
}

# Debian's systemd hands memory and pids to users, and no more.
users_some_delegated() {
	local in=
	usable nacre-test
	delegate nacre-test memory pids
	is 'memory pids' cat $top/for-nacre-test/nacre-test/cgroup.controllers
	ends 0 as nacre-test nacre run --rm -m 32m --cpus 0.5 busybox cat $top/memory.max
	grep -x 33554432 said
	is 1 grep -c '^warning: cpu limit is not applied: .*not delegated' said
	undelegate nacre-test
}
