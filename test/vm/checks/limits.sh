# Limits by cgroups of version 2, as root.

limits_files() {
	cat >want <<-'END'
		memory.max 67108864
		memory.low 16777216
		memory.swap.max 33554432
		cpu.max 50000 100000
		cpu.weight 20
		cpuset.cpus 1
		cpuset.mems 0
		pids.max 20
		io.weight default 1920
	END
	inside 'true' # there is a container without limits before, which has no cgroup
	flags='-m 64m --memory-reservation 16m --memory-swap 96m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 1 --cpuset-mems 0 --pids-limit 20 --blkio-weight 200'
	nacre run --rm -i --network none $flags busybox sh -c "cd $top; while read -r f v; do echo \$f \$(cat \$f); done" <want >got 2>err
	diff want got
	no grep . err
}

limits_memory() {
	ends 137 nacre run --name oom -m 32m busybox dd if=/dev/zero of=/dev/null bs=100M count=1
	is 'true 137 exited' nacre inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}' oom
	nacre ps -a | grep 'Exited (137) .* (out of memory)'
	# a child that is killed is not the container's end
	ends 0 nacre run --name child -m 32m busybox sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1; echo code $?'
	grep 'code 137' said
	is 0 nacre inspect -f '{{.State.ExitCode}}' child
	# and one with room is well
	flags='-m 64m --memory-swap 64m'
	inside 'dd if=/dev/zero of=/dev/null bs=32M count=1'
	nacre run -d --name back -m 32m busybox dd if=/dev/zero of=/dev/null bs=100M count=1
	is 137 nacre wait back
	is true nacre inspect -f '{{.State.OOMKilled}}' back
}

limits_swap() {
	dd if=/dev/zero of=/swap bs=1M count=128 status=none
	chmod 600 /swap
	mkswap -q /swap
	swapon /swap

	# without swap of its own a container has its memory, and with swap the sum
	ends 137 nacre run --rm -m 32m --memory-swap 32m busybox dd if=/dev/zero of=/dev/null bs=48M count=1
	ends 0 nacre run --rm -m 32m --memory-swap 96m busybox dd if=/dev/zero of=/dev/null bs=48M count=1
	swapoff /swap
}

limits_cpu() {
	nacre run -d --name spin --cpus 0.2 busybox sh -c 'while :; do :; done'
	local dir
	dir=$(own spin)
	eventually grep -E 'nr_throttled [1-9]' "$dir/cpu.stat"
	is '20000 100000' cat "$dir/cpu.max"
	is 1024 nacre run --rm --cpu-shares 1024 busybox sh -c "cat $top/cpu.weight | sed s/39/1024/"
}

limits_fork_bomb() {
	local bomb='f() { while :; do f & done; }; f 2>/dev/null & exec sleep 1000' dir
	nacre run -d --name bomb --pids-limit 30 busybox sh -c "$bomb"
	dir=$(own bomb)
	eventually grep -E 'max [1-9]' "$dir/pids.events"
	[ "$(cat "$dir/pids.current")" -le 30 ]
	inside 'echo others go on'
	nacre stats --no-stream --format '{{.PIDs}}' bomb
	ends 0 nacre rm -f bomb
	[ ! -e "$dir" ]
	# the same, as one that the process namespace does not hold together
	nacre run -d --name guest --pid host --pids-limit 30 busybox sh -c "$bomb"
	dir=$(own guest)
	eventually grep -E 'max [1-9]' "$dir/pids.events"
	ends 0 nacre rm -f guest
	[ ! -e "$dir" ]
}

limits_stats() {
	nacre run -d --name web -m 64m --tmpfs /data busybox sh -c 'dd if=/dev/zero of=/data/x bs=1M count=20 2>/dev/null; sleep 1000 & while :; do :; done'
	eventually nacre exec web sh -c 'pidof sleep'
	nacre stats --no-stream --format '{{.Name}} {{.PIDs}} {{.CPUPerc}} {{.MemUsage}}' web >got
	cat got
	grep -E '^web 2 [1-9][0-9.]+% 2[0-9.]+MiB / 64MiB$' got
	nacre stats --no-stream web 2>err
	no grep warning err
	nacre top web | grep 'sleep 1000'
}

limits_update() {
	nacre run -d --name web busybox sleep 1000
	nacre exec -d web sleep 1000
	nacre update -m 64m --memory-swap 64m --cpus 0.5 --pids-limit 7 --cpuset-cpus 0 --blkio-weight 500 web
	local dir
	dir=$(own web)
	is 67108864 cat "$dir/memory.max"
	is 0 cat "$dir/memory.swap.max"
	is '50000 100000' cat "$dir/cpu.max"
	is 7 cat "$dir/pids.max"
	is 0 cat "$dir/cpuset.cpus"
	is 2 sh -c "wc -l <$dir/cgroup.procs"
	nacre update -m 128m --memory-swap 192m --pids-limit -1 web
	is 134217728 cat "$dir/memory.max"
	is 67108864 cat "$dir/memory.swap.max"
	is max cat "$dir/pids.max"
	is '50000 100000' cat "$dir/cpu.max"
	nacre restart -t 0 web
	is 134217728 cat "$(own web)/memory.max"
	[ ! -e "$dir" ]
}

limits_pause() {
	local flags dir n
	for flags in '' '-m 64m'; do
		nacre run -d --name web $flags busybox sh -c 'while :; do :; done'
		nacre pause web
		dir=$(own web)
		grep 'frozen 1' "$dir/cgroup.events"
		n=$(cut -d ' ' -f 14 "/proc/$(nacre inspect -f '{{.State.Pid}}' web)/stat")
		nacre ps | grep Paused
		sleep 1
		is "$n" cut -d ' ' -f 14 "/proc/$(nacre inspect -f '{{.State.Pid}}' web)/stat"
		nacre unpause web
		grep 'frozen 0' "$dir/cgroup.events"
		nacre pause web
		nacre rm -f web
		[ ! -e "$dir" ]
	done
}

limits_devices() {
	nacre run -d --name dev --device-cgroup-rule 'c 1:8 r' busybox sleep 1000
	nacre exec dev sh -c 'mknod /dev/r c 1 8 && head -c 1 /dev/r >/dev/null'
	nacre exec dev sh -c 'mknod /dev/k c 1 11; ! head -c 1 /dev/k'
}

limits_namespace() {
	flags='-m 64m'
	is '0::/' inside 'cat /proc/self/cgroup'
	ends 1 inside "echo 1 >$top/memory.max"
	ends 1 inside "mkdir $top/mine"
	flags='-m 64m --cgroupns host'
	inside 'cat /proc/self/cgroup' | grep '^0::/nacre/nacre-'
}

limits_parent() {
	nacre run -d --name web --cgroup-parent /mine/here -m 64m busybox sleep 1000
	own web | grep "^$top/mine/here/nacre-"
	echo 20 >$top/mine/pids.max
	nacre exec web sh -c 'for i in $(seq 30); do sleep 1 & done' >said 2>&1 || true
	grep fork said
	nacre rm -f web
	eventually rmdir $top/mine/here
	eventually rmdir $top/mine
}

# A container with its cgroup to write in has others below; they go with it.
limits_nested() {
	local dir
	nacre run -d --name web --privileged -m 64m busybox sh -c "mkdir -p $top/a/b && echo 1 >$top/a/b/cgroup.procs && sleep 1000"
	eventually nacre exec web test -e $top/a/b
	dir=$(own web | sed 's,/a/b$,,')
	nacre stats --no-stream --format '{{.PIDs}}' web
	nacre rm -f web
	[ ! -e "$dir" ]
}

limits_build() {
	mkdir build
	cat >build/Dockerfile <<-END
		FROM busybox
		RUN cd $top; echo \$(cat memory.max memory.swap.max cpu.max cpu.weight cpuset.cpus) >/out
	END
	nacre build -q -t a -m 64m --memory-swap 80m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 build
	is '67108864 16777216 50000 100000 20 0' nacre run --rm a cat /out
	printf 'FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=48M count=1\n' >build/Dockerfile
	ends 1 nacre build -m 16m --memory-swap 16m build
	grep 'exit code: 137: it reached its memory limit' said
	rm -r build
}

limits_killed() {
	local pid dir
	nacre run -d --name web -m 64m busybox sh -c 'sleep 1000 & sleep 1000'
	dir=$(own web)
	pid=$(nacre inspect -f '{{.State.Pid}}' web)
	kill -9 "$(awk '$1 == "PPid:" { print $2 }' "/proc/$pid/status")"
	eventually test ! -e "/proc/$pid"
	eventually test ! -e "$dir"
	nacre ps -a | grep 'Exited (137) .* (its monitor was killed)'
}

# What belongs to version 1 alone is said.
limits_first_only() {
	ends 0 nacre run --rm -m 64m --memory-swappiness 10 --oom-kill-disable busybox true
	grep 'swappiness is not applied: cgroups of version 2 have no such setting' said
}
