# What the checks share.

top=/sys/fs/cgroup

# is WANT COMMAND...: it ends well and prints this.
is() {
	local want=$1 got
	shift
	got=$("$@")
	[ "$got" = "$want" ] || { echo "printed '$got', wanted '$want'"; return 1; }
}

# ends CODE COMMAND...: it ends with this code. What it says is in the file "said".
ends() {
	local want=$1 got=0
	shift
	"$@" >said 2>&1 || got=$?
	cat said
	[ "$got" = "$want" ] || { echo "ended with $got, wanted $want"; return 1; }
}

# no COMMAND...: it fails.
no() { if "$@"; then return 1; fi; }

# eventually COMMAND...: it ends well within half a minute.
eventually() {
	local - i
	set +x
	for i in $(seq 150); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.2
	done
	"$@"
}

# inside COMMAND: a shell's command in a container that has what $flags say.
inside() { nacre run --rm --network none ${flags-} busybox sh -c "$*"; }

# own prints the cgroup of version 2 of a container that runs.
own() {
	local pid
	pid=$(nacre inspect -f '{{.State.Pid}}' "$1")
	[ "$pid" != 0 ]
	echo "$top$(sed -n 's/^0:://p' "/proc/$pid/cgroup")"
}

left_cgroups() { [ -z "$(find $top -type d -name 'nacre-*')" ]; }
left_processes() { no grep -l -a '^nacre' /proc/[0-9]*/cmdline; }
left_mounts() { no grep -E '/run/nacre|/var/lib/nacre|/home/' /proc/self/mounts; }
left_loops() { [ -z "$(losetup -a)" ]; }

# clean is part of every check: its containers are gone, and nothing of them is left.
clean() {
	local c
	for c in $(nacre ps -aq); do nacre rm -f "$c"; done
	eventually left_cgroups
	eventually left_processes
	left_mounts
	left_loops
}
