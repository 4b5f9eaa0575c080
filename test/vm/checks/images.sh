# Images of few and many layers, and what is done with them, where layers cannot be mounted out of their tars.

# chain N: a Dockerfile of so many layers on busybox.
chain() {
	local i
	echo FROM busybox
	for i in $(seq "$(($1 - 1))"); do
		echo "$i" >"chain/f$i"
		echo "COPY f$i /d/"
	done
}

many() { # many USER
	local n who=(as "$1")
	[ "$1" != root ] || who=()
	for n in 1 60 200; do
		mkdir chain
		chain $n >chain/Dockerfile
		chmod -R a+rX chain
		"${who[@]}" nacre build -q -t chain$n "$PWD/chain"
		is $((n - 1)) "${who[@]}" nacre run --rm chain$n sh -c 'ls /d 2>/dev/null | wc -l'
		rm -r chain
	done
	# and one more, of a step and of a commit
	mkdir chain
	printf 'FROM chain200\nRUN rm /d/f7 && echo new >/d/f8\n' >chain/Dockerfile
	chmod -R a+rX chain
	"${who[@]}" nacre build -q -t more "$PWD/chain"
	is '198 new' "${who[@]}" nacre run --rm more sh -c 'echo $(ls /d | wc -l) $(cat /d/f8)'
	rm -r chain
}

images_layers() { many root; }
images_layers_user() { usable nacre-test; many nacre-test; }
images_layers_one() { usable nacre-one; many nacre-one; }

images_too_many() {
	mkdir -p chain
	chain 505 >chain/Dockerfile
	nacre build -q -t chain505 chain
	ends 125 nacre run --rm chain505 true
	grep 'layers' said
	rm -r chain
}

images_commit() {
	nacre run --name one busybox sh -c 'rm /bin/vi; mkdir /new; echo 1 >/new/x; chown 5:6 /new/x; mv /var/www /var/old'
	nacre diff one
	is 'C /bin' sh -c 'nacre diff one | head -1'
	nacre commit one two
	is '1 5:6' nacre run --rm two sh -c 'echo $(cat /new/x) $(stat -c %u:%g /new/x)'
	ends 127 nacre run --rm two vi
	nacre cp one:/new/x x
	is 1 cat x
	nacre export one | tar -t | grep -x new/x
}

images_registry() {
	nacre serve --addr 127.0.0.1:5000 >serve.log 2>&1 &
	local pid=$!
	eventually sh -c 'echo >/dev/tcp/127.0.0.1/5000' || eventually bash -c 'echo >/dev/tcp/127.0.0.1/5000'
	nacre tag busybox 127.0.0.1:5000/bb:1
	nacre push 127.0.0.1:5000/bb:1 || cat serve.log
	nacre rmi 127.0.0.1:5000/bb:1
	nacre pull 127.0.0.1:5000/bb:1
	nacre run --rm 127.0.0.1:5000/bb:1 true
	nacre rmi 127.0.0.1:5000/bb:1
	kill $pid
	wait $pid || true
}

images_save() {
	nacre save -o bb.tar busybox
	nacre load -i bb.tar
	nacre system check
}

images_debian() {
	nacre import /cache/debian.tar debian
	is '12' nacre run --rm debian sh -c 'cut -d. -f1 /etc/debian_version'
	mkdir -p deb
	printf 'FROM debian\nRUN useradd -m someone && su someone -c "touch ~/x" && dpkg --verify base-files && cp -a /usr/share/doc/bash /root/\n' >deb/Dockerfile
	nacre build -t deb2 deb
	is someone nacre run --rm deb2 stat -c %U /home/someone/x
	rm -r deb
}

# AppArmor is on in Debian's kernels. A container has the profile of who starts it: none.
images_apparmor() {
	is Y cat /sys/module/apparmor/parameters/enabled
	is unconfined inside 'cat /proc/self/attr/current'
	ends 0 nacre run --rm --security-opt apparmor=unconfined busybox true
	ends 125 nacre run --rm --security-opt apparmor=mine busybox true
}

# A user namespace of its own, by mounts that show other ids.
images_userns() {
	is '0 root' nacre run --rm --userns=auto busybox sh -c 'echo $(id -u) $(stat -c %U /bin)'
	ends 1 nacre run --rm --userns=auto busybox sh -c 'grep -q "^ *0 *0 " /proc/self/uid_map'
	nacre run --rm --userns=auto -v data:/data busybox touch /data/x
	is 0 nacre run --rm -v data:/data busybox stat -c %u /data/x
	nacre volume rm data
}
